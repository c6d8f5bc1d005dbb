"""The zoo in PyTorch, written independently from the papers' tables, with the names of torchvision's state dicts.

``TWINS`` has a function without arguments for each name of ``nc.models.MODELS``.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)


def conv_bn_relu(c, k, size, stride=1, eps=1e-5, groups=1, activation=nn.ReLU):
    conv = nn.Conv2d(c, k, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(k, eps), activation())


# -- plain ------------------------------------------------------------------------------------------------------------


class LeNet5(nn.Module):
    def __init__(self, activation=F.relu, pool=F.max_pool2d):
        super().__init__()
        self.conv2d_1, self.conv2d_2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.dense_1, self.dense_2, self.dense_3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.activation, self.pool = activation, pool

    def forward(self, x):
        f, pool = self.activation, self.pool
        x = pool(f(self.conv2d_2(pool(f(self.conv2d_1(x)), 2))), 2).flatten(1)
        return self.dense_3(f(self.dense_2(f(self.dense_1(x)))))


class SimpleCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d_1, self.conv2d_2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.dense_1, self.dense_2 = nn.Linear(3136, 128), nn.Linear(128, 10)

    def forward(self, x):
        for conv in (self.conv2d_1, self.conv2d_2):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.dense_2(F.relu(self.dense_1(x.flatten(1))))


class Plain(nn.Module):
    """AlexNet or VGG: features, an adaptive pool and a classifier."""

    def __init__(self, features, size, classifier):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)
        self.avgpool = nn.AdaptiveAvgPool2d(size)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def alexnet():
    features, c = [], 3
    for k, size, stride, padding, pooled in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        features += [nn.Conv2d(c, k, size, stride, padding), nn.ReLU(), *([nn.MaxPool2d(3, 2)] if pooled else [])]
        c = k
    classifier = [
        *(nn.Dropout(0), nn.Linear(9216, 4096), nn.ReLU()),
        *(nn.Dropout(0), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)),
    ]
    return Plain(features, 6, classifier)


def vgg(column, normalized=False):
    """VGG with the layers in a column of the paper's table: a number of filters, or "M" for a pool."""
    features, c = [], 3
    for k in column:
        if k == "M":
            features.append(nn.MaxPool2d(2))
        else:
            features += [nn.Conv2d(c, k, 3, padding=1), *([nn.BatchNorm2d(k)] if normalized else []), nn.ReLU()]
            c = k
    classifier = [
        *(nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(0)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0), nn.Linear(4096, 1000)),
    ]
    return Plain(features, 7, classifier)


M = "M"
VGG = {
    11: [64, M, 128, M, 256, 256, M, 512, 512, M, 512, 512, M],
    13: [64, 64, M, 128, 128, M, 256, 256, M, 512, 512, M, 512, 512, M],
    16: [64, 64, M, 128, 128, M, 256, 256, 256, M, 512, 512, 512, M, 512, 512, 512, M],
    19: [64, 64, M, 128, 128, M, 256, 256, 256, 256, M, 512, 512, 512, 512, M, 512, 512, 512, 512, M],
}

# -- GoogLeNet --------------------------------------------------------------------------------------------------------


class Basic(nn.Module):
    def __init__(self, c, k, size, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(c, k, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(k, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, c, k1, r3, k3, r5, k5, kp):
        super().__init__()
        self.branch1 = Basic(c, k1, 1)
        self.branch2 = nn.Sequential(Basic(c, r3, 1), Basic(r3, k3, 3))
        self.branch3 = nn.Sequential(Basic(c, r5, 1), Basic(r5, k5, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), Basic(c, kp, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.fc1, self.fc2 = Basic(c, 128, 1), nn.Linear(2048, 1024), nn.Linear(1024, 1000)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1))))


class GoogLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = Basic(3, 64, 7, 2), Basic(64, 64, 1), Basic(64, 192, 3)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1, self.aux2, self.fc = Auxiliary(512), Auxiliary(528), nn.Linear(1024, 1000)

    def forward(self, x):
        def pool(x, size=3):
            return F.max_pool2d(x, size, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        first = self.inception4a(pool(self.inception3b(self.inception3a(x))))
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = self.inception5b(self.inception5a(pool(self.inception4e(second), 2)))
        y = self.fc(x.mean((2, 3)))
        return [y, self.aux1(first), self.aux2(second)] if self.training else y


# -- residual networks ------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k)
        self.conv2, self.bn2 = nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k)
        self.downsample = projection(c, k, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    def __init__(self, c, k, stride, width=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, width * k, 1, bias=False), nn.BatchNorm2d(width * k)
        self.conv2 = nn.Conv2d(width * k, width * k, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width * k)
        self.conv3, self.bn3 = nn.Conv2d(width * k, 4 * k, 1, bias=False), nn.BatchNorm2d(4 * k)
        self.downsample = projection(c, 4 * k, stride)

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def projection(c, k, stride):
    if c == k and stride == 1:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))


class ResNet(nn.Module):
    def __init__(self, block, expansion, counts, filters=64, classes=1000, imagenet=True):
        super().__init__()
        self.conv1 = (
            nn.Conv2d(3, filters, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, filters, 3, 1, 1, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(filters)
        self.imagenet, self.count, c = imagenet, len(counts), filters
        for stage, count in enumerate(counts):
            k, blocks = filters * 2**stage, []
            for i in range(count):
                blocks.append(block(c, k, 2 if stage > 0 and i == 0 else 1))
                c = k * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(c, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(self.count):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def cifar_resnet(n):
    return ResNet(BasicBlock, 1, [n, n, n], 16, 10, imagenet=False)


class WideBlock(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(k), nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(c, k, 1, stride, bias=False) if c != k or stride > 1 else None

    def forward(self, x):
        normalized = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(normalized))))
        return y + (x if self.shortcut is None else self.shortcut(normalized))


class WideResNet(nn.Module):
    def __init__(self, n, width):
        super().__init__()
        self.conv1, c = nn.Conv2d(3, 16, 3, 1, 1, bias=False), 16
        for stage in range(3):
            k, blocks = 16 * width * 2**stage, []
            for i in range(n):
                blocks.append(WideBlock(c, k, 2 if stage > 0 and i == 0 else 1))
                c = k
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn1, self.fc = nn.BatchNorm2d(c), nn.Linear(c, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


# -- MobileNetV2, U-Net -----------------------------------------------------------------------------------------------


class InvertedResidual(nn.Module):
    def __init__(self, c, k, stride, expansion):
        super().__init__()
        hidden, self.shortcut = c * expansion, stride == 1 and c == k
        relu6 = partial(conv_bn_relu, activation=nn.ReLU6)
        self.conv = nn.Sequential(
            *([relu6(c, hidden, 1)] if expansion != 1 else []),
            relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, k, 1, bias=False),
            nn.BatchNorm2d(k),
        )

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        features, c = [conv_bn_relu(3, 32, 3, 2, activation=nn.ReLU6)], 32
        for t, k, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                           (6, 320, 1, 1)):  # fmt: skip
            for i in range(n):
                features.append(InvertedResidual(c, k, s if i == 0 else 1, t))
                c = k
        self.features = nn.Sequential(*features, conv_bn_relu(c, 1280, 1, activation=nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(0), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class UNetLevel(nn.Module):
    def __init__(self, c, k, up=False):
        super().__init__()
        if up:
            self.up = nn.ConvTranspose2d(c, k, 2, 2)
        self.conv1, self.bn1 = nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k)
        self.conv2, self.bn2 = nn.Conv2d(k, k, 3, padding=1, bias=False), nn.BatchNorm2d(k)

    def forward(self, x, skip=None):
        if skip is not None:
            x = torch.cat([skip, self.up(x)], 1)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class DeepCNN(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.pair1, self.pair2 = UNetLevel(1, width), UNetLevel(width, 2 * width)
        self.pair3 = UNetLevel(2 * width, 4 * width)
        self.dense_1 = nn.Linear(3 * 3 * 4 * width, 10)

    def forward(self, x):
        for pair in (self.pair1, self.pair2, self.pair3):
            x = F.max_pool2d(pair(x), 2)
        return self.dense_1(x.flatten(1))


class UNet(nn.Module):
    def __init__(self, depth=4, width=64, classes=2):
        super().__init__()
        self.depth, c = depth, 1
        for level in range(1, depth + 1):
            k = width << (level - 1)
            setattr(self, f"encoder{level}", UNetLevel(c, k))
            setattr(self, f"decoder{level}", UNetLevel(2 * k, k, up=True))
            c = k
        self.bottleneck, self.head = UNetLevel(c, 2 * c), nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skips = []
        for level in range(1, self.depth + 1):
            skips.append(getattr(self, f"encoder{level}")(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for level in range(self.depth, 0, -1):
            x = getattr(self, f"decoder{level}")(x, skips.pop())
        return self.head(x)


class GridDetector(nn.Module):
    def __init__(self, depth=3, width=16, outputs=15):
        super().__init__()
        self.depth = depth
        for level in range(depth + 1):
            c = width << (level - 1) if level else 1
            setattr(self, f"stage{level + 1}", UNetLevel(c, width << level))
        self.head = nn.Conv2d(width << depth, outputs, 1)

    def forward(self, x):
        for level in range(1, self.depth + 1):
            x = F.max_pool2d(getattr(self, f"stage{level}")(x), 2)
        return self.head(getattr(self, f"stage{self.depth + 1}")(x))


TWINS = {
    "lenet5": LeNet5,
    "simple_cnn": SimpleCNN,
    "deep_cnn": DeepCNN,
    "deep_cnn_wide": partial(DeepCNN, 32),
    "alexnet": alexnet,
    **{f"vgg{depth}": partial(vgg, column) for depth, column in VGG.items()},
    **{f"vgg{depth}_bn": partial(vgg, column, normalized=True) for depth, column in VGG.items()},
    "googlenet": GoogLeNet,
    "resnet18": partial(ResNet, BasicBlock, 1, [2, 2, 2, 2]),
    "resnet18_small": partial(ResNet, BasicBlock, 1, [2, 2, 2, 2], filters=16),
    "resnet34": partial(ResNet, BasicBlock, 1, [3, 4, 6, 3]),
    "resnet50": partial(ResNet, Bottleneck, 4, [3, 4, 6, 3]),
    "resnet101": partial(ResNet, Bottleneck, 4, [3, 4, 23, 3]),
    "resnet20": partial(cifar_resnet, 3),
    "resnet32": partial(cifar_resnet, 5),
    "resnet56": partial(cifar_resnet, 9),
    "wide_resnet50_2": partial(ResNet, partial(Bottleneck, width=2), 4, [3, 4, 6, 3]),
    "wide_resnet16_4": partial(WideResNet, 2, 4),
    "wide_resnet28_10": partial(WideResNet, 4, 10),
    "mobilenet_v2": MobileNetV2,
    "unet": UNet,
    "unet_small": partial(UNet, 3, 16),
    "grid_detector": GridDetector,
}
