# An image with numbacnn and its kernels compiled for the processor that builds it: docker build -t numbacnn .
# On another kind of processor they compile at the first run, as anywhere.
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir /src && rm -r /src
# Compiled kernels are used only from folders of the user who runs them.
RUN useradd --create-home numbacnn
USER numbacnn
WORKDIR /home/numbacnn
ENV NUMBACNN_CACHE_DIR=/home/numbacnn/kernels
RUN numbacnn warm-up lenet5
ENTRYPOINT ["numbacnn"]
