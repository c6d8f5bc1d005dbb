"""
Train a network on digits
=========================

LeNet-5 learns the bundled handwritten digits in about a second.
"""

import numbacnn as nc

train, test = nc.data.load("digits")
model = nc.models.lenet5(seed=0)
model

# %%
# ``fit`` returns the history of all epochs.
history = model.fit(
    train,
    validation=test,
    optimizer=nc.SGD(0.01, momentum=0.9),
    epochs=10,
    batch_size=16,
    progress=False,
)
curves = nc.plots.training_curves(history)

# %%
# The report has precision, recall and F1 of each class; the confusion matrix shows
# what is taken for what.
report = model.report(test)
matrix = nc.plots.confusion_matrix(report)
report

# %%
# The most confident mistakes:
wrong = nc.plots.mistakes(model, test, 12)
