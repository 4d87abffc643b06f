"""Runs every attack, one line each: PASS, FAIL or SKIP, what was done, what happened. Exit 1 when one broke through."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import complete  # noqa: F401  (registers its attacks)
import hostile  # noqa: F401
import identity  # noqa: F401
import steady  # noqa: F401
from place import ATTACKS, Attack, Broken, Chosen, Place, Skipped

PACKS = Path(__file__).resolve().parents[2] / "assets" / "packs"


def pack(name: str) -> Path:
    """A pack's directory: as it is given, or by the name of a shipped one."""
    found = next((path for path in (Path(name), PACKS / name) if (path / "pack.toml").is_file()), None)
    if found is None:
        raise argparse.ArgumentTypeError(f"{name} is no pack, and {PACKS} has none of this name")
    return found.resolve()


def outcome(each: Attack, place: Place) -> tuple[str, str]:
    """PASS, FAIL or SKIP, and what happened."""
    try:
        return "PASS", each.run(place)
    except Broken as e:
        return "FAIL", str(e)
    except Skipped as e:
        return "SKIP", str(e)
    except (OSError, LookupError, TypeError, ValueError) as e:
        return "FAIL", f"no such outcome was foreseen: {type(e).__name__}: {e}"
    finally:
        place.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/attack.sh", description=__doc__)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="kills at random moments (default: 100)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the random moments (default: a new one)")
    parser.add_argument("--only", metavar="WORD", help="attacks with this in their kind or description")
    parser.add_argument("--short", action="store_true", help="only the quick ones")
    parser.add_argument("--model", type=pack, metavar="PACK", help="a pack that takes no prompts (videomt_mini) in place of mock packs")
    parser.add_argument("--labels", type=pack, metavar="PACK", help="with this label pack (labels_mini); only beside --model")
    args = parser.parse_args()
    if args.labels and not args.model:
        parser.error("--labels only beside --model")
    packs = Chosen(args.model, args.labels)
    seed = random.randrange(10**9) if args.seed is None else args.seed
    chosen = [a for a in ATTACKS if (a.short or not args.short) and (args.only or "") in f"{a.kind} {a.what}"]
    chosen = [a for a in chosen if not (args.model and a.scripted)]
    named = "".join(f", {path.name}" for path in (args.model, args.labels) if path)
    print(f"{args.binary}, seed {seed}, {len(chosen)} attacks{named}", flush=True)
    started, count = time.monotonic(), {"PASS": 0, "FAIL": 0, "SKIP": 0}

    def make(each: Attack) -> None:
        result, happened = outcome(each, Place(args.binary, seed, args.kills, packs))
        count[result] += 1
        print(f"{result} {each.kind}: {each.what}: {happened}", flush=True)

    # Those that are about time have the machine to themselves; of the others the long ones come first.
    alone = [each for each in chosen if each.kind.startswith("C")]
    together = sorted((each for each in chosen if each not in alone), key=lambda each: ("kills" in each.what, each.kind), reverse=True)
    for each in alone:
        make(each)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, together))
    print(f"{count['PASS']} held, {count['FAIL']} broke through, {count['SKIP']} skipped, {time.monotonic() - started:.0f} s, seed {seed}")
    return 1 if count["FAIL"] else 0


sys.exit(main())
