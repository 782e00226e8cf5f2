"""`chexnode bundle run`: a bundle's numbers for an array that is normalised already, to check them against others'."""

from pathlib import Path

import click


@click.command("run")
@click.argument("bundle")
@click.option("--array", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help=".npy")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help=".npz to write")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Images at a time.")
def run_command(bundle: str, array: Path, out: Path, batch: int) -> None:
    """Run BUNDLE in float32 on --array, normalised float32 [B, channels, H, W].

    BUNDLE is a folder, or a name or the beginning of a digest of chexnode bundle list.

    Writes logits [B, classes], attention [B, heads, classes, patches], and of the last block after the final norm
    patch_tokens [B, patches, width] and cls_token [B, width]; dense [B, maps, H / 4, W / 4] where the bundle has it.
    """
    import numpy as np
    from rich.console import Console

    from workers.bundle import load_bundle
    from workers.raw_outputs import raw_outputs, read_input
    from workers.registry_commands import named_folder

    if not out.parent.is_dir():
        # Not after minutes of computing.
        raise click.BadParameter(f"the folder {out.parent} does not exist: make it first", param_hint="--out")
    loaded = load_bundle(named_folder(bundle))
    outputs = raw_outputs(loaded, read_input(array, loaded.manifest.preprocessing.channels), batch)
    with out.open("wb") as stream:
        # np.savez would add .npz to another name.
        np.savez(stream, allow_pickle=False, **outputs)
    console = Console(soft_wrap=True, highlight=False)
    for name, values in outputs.items():
        console.print(f"{name} {list(values.shape)}", markup=False)
    console.print(f"{loaded.manifest.name} {loaded.manifest.version} {loaded.digest}, float32: written to {out}")
