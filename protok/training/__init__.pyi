from . import (
    batches as batches,
    card as card,
    config as config,
    correspondence as correspondence,
    finetune as finetune,
    module as module,
    report as report,
    run as run,
    splits as splits,
)
