"""What was judged, beside what was seen: the table of disagreements, and the tables of docs/DIFFERENTIAL.md."""

import functools
import pathlib
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs/DIFFERENTIAL.md"
NAMES = ["ours", "nginx", "haproxy"]
START, END = "<!-- tests/differential/run --write writes from here -->\n", "<!-- to here -->\n"


@functools.cache
def judgements():
    return tomllib.loads((HERE / "judgements.toml").read_text())


def expected(name):
    """What the three were seen to do when it was judged; `None` where they agreed."""
    for group in judgements()["group"]:
        if name in group["cases"]:
            return [group["cases"][name][one] for one in NAMES]
    return None


def is_as_expected(name, three):
    return three == expected(name) if expected(name) else len(set(three)) == 1


def disagreements(seen):
    return {name: three for name, three in seen.items() if len(set(three)) > 1}


def table(seen):
    """Prints all disagreements, in the groups in which they were judged."""
    disagree = disagreements(seen)
    for group in judgements()["group"]:
        print(f"\n{group['title']}: {group['verdict']}")
        for name in group["cases"]:
            print_case(name, disagree.pop(name, []))
    print("\nNot judged:" if disagree else "")
    for name, three in disagree.items():
        print_case(name, three)


def report(seen, write):
    """Says what is not judged, or not as it was judged, and gives the exit code."""
    disagree = disagreements(seen)
    is_judged = [name for group in judgements()["group"] for name in group["cases"]]
    wrong = [f"judged twice: {name}" for name in set(is_judged) if is_judged.count(name) > 1]
    wrong += [f"judged, but there is no such disagreement: {name}" for name in is_judged if name not in disagree]
    for name in [name for name in disagree if disagree[name] != expected(name)]:
        # In the form in which the file has it.
        texts = "".join(f"\n{one} = '''{text}'''" for one, text in zip(NAMES, disagree[name]))
        wrong.append(f"not judged, or not as judged:\n[group.cases.'{name}']{texts}")
    wrong = wrong or page(write, len(seen), len(disagree))
    print("\n".join(wrong) or "each is judged")
    return 1 if wrong else 0


def print_case(name, three):
    print(f"  {name}")
    for one, text in zip(NAMES, three):
        print(f"    {one:8} {text}")


def page(write, cases, disagreements):
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    text = before + START + tables(cases, disagreements) + END + after
    if text == PAGE.read_text():
        return []
    if write:
        PAGE.write_text(text)
        return []
    return ["docs/DIFFERENTIAL.md says something else: tests/differential/run --write"]


def tables(cases, disagreements):
    lines = [f"\n{cases} cases; the three agree on {cases - disagreements}. Judged with {judgements()['versions']}.\n"]
    for group in judgements()["group"]:
        lines += [f"\n## {group['title']}\n", f"\n**{group['verdict']}** {group['why'].strip()}\n"]
        lines += ["\n| case | ours | nginx | HAProxy |\n|---|---|---|---|\n"]
        lines += [f"| {name} | " + " | ".join(cell(of[one]) for one in NAMES) + " |\n" for name, of in group["cases"].items()]
    return "".join(lines) + "\n"


def cell(text):
    client, *backend = text.split("; ")
    return "<br>".join([client, *(f"`{one}`" for one in backend)]).replace("|", "\\|")
