"""The same training of quantizers, alone and by several processes."""

import torch

from protok.quantize import FSQ, LFQ, VQ, ProVQ, ResidualVQ, Schedule, SimVQ

#: Enough for every phase of the schedules below.
STEPS = 10
JOINED = {
    "vq": lambda: VQ(12, 4, decay=0.8),
    "cosine": lambda: VQ(12, 4, decay=0.8, metric="cosine"),
    "gradient": lambda: VQ(12, 4, decay=None),
    "simvq": lambda: SimVQ(12, 4, bias=True, kmeans=True),
    "fsq": lambda: FSQ([4, 4], dim=4),
    "lfq": lambda: LFQ(4, temperature=0.5),
    "residual": lambda: ResidualVQ([VQ(12, 4), VQ(12, 4)]),
    "provq": lambda: ProVQ(VQ(12, 4), Schedule("linear", 0.3, 0.4), "ste", reservoir=2000),
    "adaptive": lambda: ProVQ(SimVQ(12, 4), Schedule("adaptive", 0.5, 0.2), "ste", reservoir=2000),
}


def joined(step):
    torch.manual_seed(1000 + step)
    return torch.randn(96, 4) * torch.tensor([3.0, 2.0, 1.0, 1.0])


def rank_share(z, rank, whole):
    """Halves; or everything to the first process and nothing to the second."""
    return z[: len(z) * (rank == 0)] if whole else z.chunk(2)[rank]


def trained(share):
    """Train every kind on its share of the batches, gradients averaged as DDP does."""
    import torch.distributed as dist

    states = {}
    for name, make in JOINED.items():
        torch.manual_seed(5)
        q = make().train()
        turn = torch.nn.Parameter(torch.eye(4))
        parameters = [turn, *q.parameters()]
        optimiser = torch.optim.SGD(parameters, 0.05)
        for step in range(STEPS):
            if isinstance(q, ProVQ):
                q.progress(step / STEPS)
            z = share(joined(step))
            torch.manual_seed(step)
            out = q(z @ turn)
            optimiser.zero_grad()
            ((out.z - z).square().mean() + out.loss).backward()
            if dist.is_initialized():
                for p in parameters:
                    dist.all_reduce(p.grad)
                    p.grad /= 2
            optimiser.step()
        with torch.no_grad():
            torch.manual_seed(99)
            q(share(joined(STEPS), whole=True) @ turn)
        keep = {k: v for k, v in q.state_dict().items() if k not in ("recent", "seen")}
        if not dist.is_initialized() or dist.get_rank() == 0:
            # No collectives in eval: one process alone does not wait for the other.
            q.eval()(z)
        states[name] = keep | {"turn": turn.detach()}
    return states
