"""Whether a classifier can be trained on these images at all: one look at it before training begins."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from augnet.classifier import running_statistics_kept
from augnet.recipe import ScheduleConfig
from augnet.training.inner import InnerLevel, channels_last
from augnet.training.progress import Watch


def look_once(inner: InnerLevel, watch: Watch, train_images: int, classes: int, schedule: ScheduleConfig) -> None:
    """Look whether the logits are as many as the classes, and whether every part of a batch can be trained on.

    Args:
        inner: the classifier.
        watch: of the run; its sample is looked at.
        train_images: how many there are.
        classes: how many there are.
        schedule: sizes of batches.

    Raises:
        ValueError: if either is not so.
    """
    images = watch.sample[0][:2]
    refuse_other_logits(inner.classifier, images, classes)
    for name, count in (("batch_size", train_images), ("val_batch_size", len(watch.val))):
        refuse_single_images(inner, images[:1], f"schedule.{name}", min(getattr(schedule, name), count))


@torch.no_grad()
def refuse_other_logits(classifier: nn.Module, images: Float[Tensor, "b c h w"], classes: int) -> None:
    """Make sure that a classifier gives one logit per class.

    Args:
        classifier: on the device of the images; is in the training mode afterwards that it was in.
        images: two or more, since a module may squeeze away a batch of one.
        classes: how many there are.

    Raises:
        ValueError: if it does not.
    """
    training = classifier.training
    devices = [images.device] if images.device.type == "cuda" else []
    for mode in (False, True):  # some give more than logits while they train
        with torch.random.fork_rng(devices), running_statistics_kept(classifier):
            logits = classifier.train(mode)(channels_last(images))
        classifier.train(training)
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != (len(images), classes):
            raise ValueError(
                f"the classifier must give logits of shape ({len(images)}, {classes}) for {len(images)} image(s) of "
                f"{classes} classes, found {found}{' in training mode' * mode}; change its last layer"
            )


@torch.no_grad()
def refuse_single_images(inner: InnerLevel, image: Float[Tensor, "1 c h w"], setting: str, count: int) -> None:
    """Refuse batches of which a part is one image, where the classifier cannot train on one, as some batch norms.

    Args:
        inner: the classifier, which stays as it is, and how a batch is cut into parts.
        image: to try it on.
        setting: that decides the size of the batch.
        count: images of the batch, over all processes.

    Raises:
        ValueError: if there is such a part and the classifier refuses it.
    """
    own, rest = divmod(count, inner.processes.count)
    # What cannot be shared is refused where batches are made.
    if rest or all(part.stop - part.start > 1 for part in inner.parts(own)):
        return
    devices = [inner.device] if inner.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), running_statistics_kept(inner.classifier):
            inner.classifier.train()(channels_last(image))
    except ValueError as error:
        cut = f" in parts of {inner.config.micro_batch}" if inner.config.micro_batch else ""
        raise ValueError(
            f"{setting} comes to {own} image{'s' * (own != 1)}{cut}, which leaves one image alone, and the classifier "
            f"cannot train on one ({error}); give more images, or change inner.micro_batch"
        ) from error
