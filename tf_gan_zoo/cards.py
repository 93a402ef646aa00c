"""Model cards: pure functions from records to Markdown, one per section; each kind of file picks its own.

A record is what training and publishing wrote (`pretrained/NAME.json`), an entry is one item of a manifest, a
paper has the fields of `registry.Paper`. Nothing is typed by hand: what a record lacks, the card leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_gan_zoo.published import file_address

_ARXIV = "https://arxiv.org/abs/"
_BASELINE = "_baseline"


def weights_card(
    name: str, entry: Mapping[str, Any], record: Mapping[str, Any], paper: Mapping[str, Any]
) -> str:
    """The card of published weights: what they are, data, training, metrics, loading, limits."""
    return join_sections(
        title_section(f"{name}: pretrained weights", paper),
        picture_section(name),
        files_section(entry),
        licence_section(entry),
        training_section(record),
        metrics_section(record),
        loading_section(name, entry),
        limits_section(record),
    )


def release_card(cards: Sequence[str], entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The README.md of a release folder: the cards of its files below the header that model hubs read."""
    licences = {entry["licence"] for entry in entries.values()}
    header = front_matter(licences.pop() if len(licences) == 1 else "other")
    return header + "\n" + "\n---\n\n".join(cards)


def join_sections(*sections: str) -> str:
    """Sections as one text; empty ones vanish."""
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def front_matter(licence: str, tags: Sequence[str] = ("gan", "tf_gan_zoo")) -> str:
    """The YAML header that model hubs read."""
    lines = [f"license: {licence.lower()}", "library_name: keras", f"tags: [{', '.join(tags)}]"]
    return "\n".join(["---", *lines, "---", ""])


def title_section(title: str, paper: Mapping[str, Any]) -> str:
    """Heading and source of the model."""
    return f"# {title}\n\nModel: {paper_line(paper)}. Implemented by tf_gan_zoo."


def paper_line(paper: Mapping[str, Any]) -> str:
    """Authors, title and year, with a link where one is known."""
    text = f"{paper['authors']}, \"{paper['title']}\", {paper['year']}"
    address = f"{_ARXIV}{paper['arxiv']}" if paper.get("arxiv") else paper.get("url")
    return f"[{text}]({address})" if address else text


def picture_section(name: str, file: str | None = None) -> str:
    """The samples that the run drew at its end."""
    return f"![samples of {name}]({file or f'{name}.png'})"


def files_section(entry: Mapping[str, Any]) -> str:
    """File, size and digest."""
    rows = [
        ("file", f"`{entry['file']}`"),
        ("size", f"{entry['size']:,} bytes"),
        ("SHA-256", f"`{entry['sha256']}`"),
        ("format", "NPZ of plain float arrays, no pickle"),
    ]
    if entry.get("optimizers"):
        rows.append(("optimizers", "state of every optimizer and the step"))
    return "## File\n\n" + table(("", ""), rows)


def licence_section(entry: Mapping[str, Any]) -> str:
    """Data and licences."""
    data = entry.get("data_licence") or "not stated by whoever published these weights"
    return f"## Data and licence\n\n* Weights: {entry['licence']}\n* Training data: {data}"


def training_section(record: Mapping[str, Any]) -> str:
    """Command, machine, time and versions of the run, what its sentinel found, what changed since."""
    lines = ["## Training"]
    if record.get("command"):
        lines.append(f"```bash\n{record['command']}\n```")
    facts = [machine_line(record), _duration(record), _versions(record)]
    facts += [f"{topic.capitalize()}: {text}" for topic, text in record.get("notes", {}).items()]
    if "predates" in record:
        facts.append(f"These weights predate a change of the model: {record['predates']}")
    facts += [f"Found during the run: {failure}" for failure in record.get("failures", [])]
    return "\n\n".join([*lines, "\n".join(f"* {fact}" for fact in facts if fact)])


def machine_line(record: Mapping[str, Any]) -> str:
    """'Machine: GPUs, or processor and cores', or nothing if the record has none."""
    machine = record.get("machine")
    if not machine:
        return ""
    return f"Machine: {', '.join(machine['gpus']) or machine['cpu']}, {machine['cores']} CPU cores"


def metrics_section(record: Mapping[str, Any]) -> str:
    """Metrics beside those of the untrained network, and how they were measured."""
    if not record.get("metrics"):
        return ""
    rows = _metric_rows(record["metrics"], record.get("untrained", {}))
    header = ("metric", "these weights", "untrained", "baseline")
    return "## Metrics\n\n" + table(header, rows) + "\n\n" + protocol_line(record)


def protocol_line(record: Mapping[str, Any]) -> str:
    """'Protocol: what was measured on', from the record's own protocol."""
    protocol = record.get("protocol", {})
    facts = [f"{key.replace('_', ' ')} {value}" for key, value in protocol.items()]
    return f"Protocol: {', '.join(facts)}." if facts else "Protocol: not recorded."


def loading_section(name: str, entry: Mapping[str, Any]) -> str:
    """How to load the weights in Python: by name, by address, to train on."""
    mirrors = entry.get("mirrors") or ["https://HOST/FOLDER"]
    address = file_address(mirrors[0], entry["file"])
    fields = "".join(f", {field}={value!r}" for field, value in entry.get("overrides", {}).items())
    return f"""## Loading

```python
import tf_gan_zoo as zoo

model = zoo.get("{name}", weights="{address}#sha256={entry['sha256']}"{fields})
model = zoo.get("{name}", weights="{entry['file']}"{fields})   # after downloading it
model.fit(your_dataset, epochs=1)   # discriminator included: train on from here
```

The folder that holds this card is a mirror: with `ZOO_WEIGHTS_URL={address.rpartition('/')[0]}`,
`weights="pretrained"` and `tf-gan-zoo fetch {name}` look here first. Every file is checked against its
digest; for recipes that tf_gan_zoo itself publishes its own digests hold."""


def limits_section(record: Mapping[str, Any]) -> str:
    """What these weights are not for."""
    examples = record.get("protocol", {}).get("examples")
    measured = f" on {examples} examples" if examples else ""
    return f"""## Limits

* The model knows its training data only: other kinds of pictures, sizes or ranges give poor results.
* The metrics come from one run and one seed, measured{measured}: they compare runs of this recipe, not this
  recipe with the paper.
* Generated pictures may repeat training examples or show their biases: look before you publish."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _metric_rows(metrics: Mapping[str, float], untrained: Mapping[str, float]) -> list[tuple[str, ...]]:
    """One row per metric; those named _baseline go into their metric's row."""
    own = [key for key in metrics if not (key.endswith(_BASELINE) and key.removesuffix(_BASELINE) in metrics)]
    columns = [metrics, untrained, {key: metrics.get(key + _BASELINE) for key in own}]
    return [(key, *(_number(column.get(key)) for column in columns)) for key in own]


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _duration(record: Mapping[str, Any]) -> str:
    if not record.get("seconds"):
        return ""
    rate = record.get("images_per_second")
    speed = f", {rate:.0f} examples per second" if rate else ""
    return f"Time: {record['seconds'] / 60:.1f} minutes for {record['steps']:,} steps{speed}"


def _versions(record: Mapping[str, Any]) -> str:
    versions = record.get("versions", {})
    return "Versions: " + ", ".join(f"{key} {value}" for key, value in versions.items()) if versions else ""
