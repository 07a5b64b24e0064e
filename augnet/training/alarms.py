"""Alarms: what goes wrong in learning an augmentation, said in words with the setting to change.

An alarm is raised once, and again only after `AGAIN` steps if it still holds.
"""

from dataclasses import dataclass, field
from typing import Any

from augnet.augmenter import Learned

AGAIN = 1000
# Augmenter updates before which a policy, or a classifier, says nothing; and before noise can be told from the mean.
EARLY = 20
SETTLED = 120
# Share of augmenter updates that start the inverse product anew beyond which something is wrong with its settings.
OFTEN = 0.3
# Shares of the limit below which an augmentation cannot be seen.
FAINT = 0.02
# The watched part must be this many standard errors worse than the part that is learned from.
SURE = 4.0
LEAST_AGREEMENT = 0.6
# Signal over noise, in squares, of an entry of the average of all hypergradients so far, below which nothing has been
# learned. Of 49 entries of independent noise it is 0 ± 0.2. Of ten runs on signs, CIFAR-10 and digits eight ended at
# 0.4 to 2.5, and one on CIFAR-10 and one on 1,198 digits, of which 99 % were right, at 0.1 and 0.2. Noise was
# independent (serial correlations of 0.02 at most), and what `use_price` adds a thousandth.
LEAST_SIGNAL = 0.25


@dataclass
class Alarms:
    """What was raised, and at which step; `state` goes into a checkpoint."""

    state: dict[str, int] = field(default_factory=dict)

    def check(
        self,
        step: int,
        *,
        resets: int,
        noise: float,
        outer_steps: int,
        learned: list[Learned],
        overfitting: float,
        agreement: float,
        skipped: int,
    ) -> list[str]:
        """Return the sentences of the alarms that go off at `step`.

        Args:
            resets: how often the inverse-Hessian-vector product blew up and was started anew.
            noise: share of noise in the hypergradient (`NoiseMeter`), over all augmenter updates, 0 to 1.
            outer_steps: augmenter updates so far.
            learned: the policy, averaged over images.
            overfitting: by how many standard errors the watched validation images have a higher loss than the others.
            agreement: share of images that are right before augmentation and still right after it.
            skipped: steps left out because their loss was not finite.
        """
        # What was left out for spoiling labels has not collapsed.
        live = [item for item in learned if item.use > 0]
        raised: dict[str, Any] = {
            "divergence": outer_steps > EARLY
            and resets > OFTEN * outer_steps
            and f"the inverse-Hessian-vector product diverged and was started anew in {resets} of {outer_steps} "
            "augmenter updates; raise inverse_hessian.damping, or set its step_size below what it chose",
            "noise": outer_steps > SETTLED
            and 1 - noise < LEAST_SIGNAL / outer_steps
            and f"noise swamps even the average of all {outer_steps} hypergradients: what was learned may be chance; "
            "raise schedule.val_batch_size or schedule.batch_size, or lower schedule.outer_every",
            "collapse": outer_steps > EARLY
            and live
            and all(_is_faint(item) for item in live)
            and "the augmenter has collapsed to leaving images as they are: this data may want no augmentation; "
            "otherwise set outer.spread_reward to 0.001 or so",
            "overfitting": outer_steps > EARLY
            and overfitting > SURE
            and f"validation images kept from learning have a higher loss, by {overfitting:.1f} standard errors, than "
            "those that the augmenter learns from: it overfits them; give more validation images or lower "
            "outer.learning_rate",
            # False of nan, too: no image that was right before.
            "destruction": outer_steps > EARLY
            and agreement < LEAST_AGREEMENT
            and f"only {agreement:.0%} of the images that the classifier gets right are still right once augmented; "
            "if labels are destroyed, set outer.label_safety to 1 or so",
            "skipped": skipped > 0
            and f"{skipped} steps were left out because their loss was not finite; lower inner.learning_rate",
        }
        sentences = []
        for name, sentence in raised.items():
            if sentence and step - self.state.get(name, -AGAIN) >= AGAIN:
                self.state[name] = step
                sentences.append(sentence)
        return sentences


def _is_faint(item: Learned) -> bool:
    weak = abs(item.centre) + item.spread < FAINT * item.transform.limit
    return item.probability < FAINT or (weak and not item.transform.choice)
