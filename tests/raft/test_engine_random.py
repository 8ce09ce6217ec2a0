"""Engines under seeded faults: kills, power loss, lost links, stalls and slow fsyncs, and the promises after them."""

import pytest

from tests.raft.lab import Lab, simulated_clock

STEPS = 1500


def disturb(lab: Lab) -> None:
    """One random fault, or the end of one."""
    choice, name = lab.random.random(), lab.random.choice(lab.names)
    other = lab.random.choice([peer for peer in lab.names if peer != name])
    majority = len(lab.names) // 2 + 1
    if choice < 0.3 and name in lab.members and len(lab.members) > majority - 1:
        lab.kill(name, power_loss=lab.random.random() < 0.5)
    elif choice < 0.55:
        lab.disconnect(name, other)
    elif choice < 0.65:
        lab.isolate(name)
    else:
        for absent in lab.names:
            if absent not in lab.members and lab.random.random() < 0.6:
                lab.start(absent)
        lab.connect_all()


def run(lab: Lab) -> None:
    number = 0
    for _ in range(STEPS):
        choice = lab.random.random()
        if choice < 0.5 and lab.links:
            link = lab.random.choice(sorted(lab.links))
            for _ in range(lab.random.choice([1, 1, 3, 10])):
                lab.deliver(*link)
        elif choice < 0.7:
            lab.clock.now_s += lab.random.choice([0.001, 0.01, 0.05])
            for name in sorted(lab.members):
                if lab.random.random() < 0.8:
                    lab.tick(name)
        elif choice < 0.85 and lab.members:
            lab.sync(lab.random.choice(sorted(lab.members)))
        elif choice < 0.97:
            number += lab.propose(b"%d" % number)
        else:
            disturb(lab)


@pytest.mark.parametrize("seed", range(60))
def test_what_was_acknowledged_survives_any_faults_of_a_seed(seed: int) -> None:
    with simulated_clock() as clock:
        lab = Lab(clock, size=5 if seed % 3 == 0 else 3, seed=seed)
        lab.elect("n1")

        run(lab)
        for name in lab.names:
            if name not in lab.members:
                lab.start(name)
        lab.connect_all()
        lab.run_s(5)
        assert lab.propose(b"the last one")
        lab.run_s(1)

        assert b"the last one" in lab.acknowledged
        lab.check_outcome()
