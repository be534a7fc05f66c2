from . import (
    batches as batches,
    config as config,
    finetune as finetune,
    module as module,
    report as report,
    run as run,
    splits as splits,
)
