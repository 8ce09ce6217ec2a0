"""`raftpay sample`: files of accounts and payments to try things with. The work is done in raftpay.ops.sample."""

from pathlib import Path

import click

from raftpay.ops.sample import SampleOptions, write_sample
from raftpay_cli.command import Command, pass_settings
from raftpay_cli.exits import ExitCode
from raftpay_cli.output import emit
from raftpay_cli.settings import Settings

_DEFAULT = SampleOptions()


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("sample"))
@click.option("--accounts", type=int, default=_DEFAULT.accounts, show_default=True, help="How many accounts.")
@click.option("--payments", type=int, default=_DEFAULT.payments, show_default=True, help="How many payments.")
@click.option("--seed", type=int, default=_DEFAULT.seed, show_default=True, help="The same seed, the same files.")
@click.option("--flawed", type=int, default=0, show_default=True, help="So many of the payments are to be refused.")
@pass_settings
def sample(settings: Settings, folder: Path, accounts: int, payments: int, seed: int, flawed: int) -> int:
    """Make FOLDER/accounts.csv and FOLDER/payments.csv: salaries, rents, card payments and refunds in four currencies.

    \b
    raftpay sample town
    raftpay account load town/accounts.csv
    raftpay pay town/payments.csv --workers 2
    """
    written = write_sample(folder, SampleOptions(accounts=accounts, payments=payments, seed=seed, flawed=flawed))
    value = {"accounts": str(written.accounts), "payments": str(written.payments), "seed": seed}
    emit(
        value,
        is_json=settings.is_json,
        table=lambda: [f"{accounts:,} accounts: {written.accounts}", f"{payments:,} payments: {written.payments}"],
    )
    return ExitCode.OK
