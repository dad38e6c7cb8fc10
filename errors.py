"""Every message a user can see, in one catalogue.

A message is one sentence that says what was asked, on what, why it cannot be done, and what to do about it.
The functions below return the exception instead of raising it, so that a call site reads
``raise errors.missing_file("the recipe", path)`` and type checkers see that the flow ends there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Shape = Iterable[int]


class EdgeLatheError(Exception):
    """Bad input or an impossible request; the command line prints it as one sentence and exits with 2."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Ask for the valid word nearest to `word`, or list all of them when none is near."""
    words = sorted(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"valid are: {', '.join(words)}." if words else "nothing is valid here."


# --- files ---------------------------------------------------------------------------------------------------


def missing_file(what: str, path: Path | str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read {what} {path}: there is no such file; check the path.")


def unreadable_file(what: str, path: Path | str, why: str, do: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read {what} {path}: {why}; {do}.")


def unwritable_file(what: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot write {what} {path}: {why}; nothing was changed, free space or choose another place and run again."
    )


# --- choices -------------------------------------------------------------------------------------------------


def unknown_choice(what: str, value: str, valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(f'Unknown {what} "{value}": {nearest(value, valid)}')


# --- bench ---------------------------------------------------------------------------------------------------


def broken_onnx(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read the model {path}: {why}; export or download the file again, and check that it is an ONNX model."
    )


def external_tensor(path: Path | str, tensor: str, location: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot read the model {path}: its tensor "{tensor}" is kept in "{location}", {why}; '
        "put the data file beside the model, or save the model with its weights inside."
    )


def unknown_dimension(path: Path | str, tensor: str, shape: Iterable[int | str]) -> EdgeLatheError:
    dims = ", ".join(str(size) for size in shape)
    return EdgeLatheError(
        f'Cannot tell the size of input "{tensor}" [{dims}] of the model {path}: only its first dimension '
        "may be left open; give the shape of that input, or export the model with the others fixed."
    )


def wrong_input_shape(path: Path | str, tensor: str, declared: Iterable[int | str], given: str) -> EdgeLatheError:
    dims = ", ".join(str(size) for size in declared)
    return EdgeLatheError(
        f'Cannot give input "{tensor}" [{dims}] of the model {path} the shape {given}: they do not agree; '
        "give the shape that the model declares."
    )


def unsupported_input_type(path: Path | str, tensor: str, dtype: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot make up values for input "{tensor}" of the model {path}: its type {dtype} is none that '
        "numpy has; give a model that takes float or integer inputs."
    )


def missing_runtime(runtime: str, package: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot measure under the runtime "{runtime}": it is not installed; run "pip install {package}".'
    )


def runtime_refused(runtime: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'The runtime "{runtime}" cannot run the model {path}: {why}; '
        "check that the file is whole and that this version of the runtime knows its operators."
    )


def worker_died(runtime: str, path: Path | str, code: int | None, last_words: str) -> EdgeLatheError:
    said = f" after saying: {last_words}" if last_words else ""
    return EdgeLatheError(
        f'The process that ran the model {path} under "{runtime}" ended with code {code}{said}; '
        "run again with more free memory, or try the file in the runtime alone."
    )


def unknown_cores(cores: Iterable[int], available: Iterable[int]) -> EdgeLatheError:
    asked = ", ".join(map(str, cores))
    return EdgeLatheError(
        f"Cannot pin a measurement to the processor cores {asked}: this process may use only "
        f"{', '.join(map(str, available))}; choose among those."
    )


def too_many_threads(threads: int, cores: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot measure with {threads} threads on {cores} processor cores: threads would wait for each "
        f"other; ask for between 1 and {cores} threads."
    )


def nothing_to_measure() -> EdgeLatheError:
    return EdgeLatheError("Cannot measure latency: no model was given; name at least one ONNX file.")


def bad_setting(name: str, value: object, need: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot measure with {name} = {value}: it must be {need}.")


def too_few_samples(quantile: float, samples: int, needed: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot give the {100 * quantile:g} % percentile of {samples} samples: at least {needed} are needed "
        "to have ten beyond it; measure longer, or ask for the median."
    )


def not_a_classifier(path: Path | str, shape: Iterable[int]) -> EdgeLatheError:
    dims = ", ".join(str(size) for size in shape)
    return EdgeLatheError(
        f"Cannot classify with the model {path}: its first output has the shape [{dims}] instead of "
        "[images, classes]; give a classifier, or one with its classes as the first output."
    )


def not_finite_output(path: Path | str, image: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot classify with the model {path}: its output for image {image} is NaN or infinite; "
        "check that image, the preprocessing and the model's weights."
    )


def unequal_lengths(what: str, other: str, length: int, other_length: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot compare {length} {what} with {other_length} {other}: there must be one of each for every image."
    )


def no_images() -> EdgeLatheError:
    return EdgeLatheError("Cannot give an accuracy of no images: give at least one labelled image.")


# --- reports and the gate -----------------------------------------------------------------------------------


def bad_budget(metric: str, text: object, why: str, examples: Iterable[str]) -> EdgeLatheError:
    shown = " or ".join(f'{metric} = "{example}"' for example in examples)
    return EdgeLatheError(f"Cannot use the budget {metric} = {text!r}: {why}; write for example {shown}.")


def no_budgets(where: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot judge {where}: it sets no budget; add at least one, for example size = "<= 300 kB".')


def invalid_report(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot read the report {path}: {why}; write it again with `edgelathe run`.")


def other_schema(path: Path | str, found: object, known: int) -> EdgeLatheError:
    age = "a newer" if isinstance(found, int) and found > known else "another"
    return EdgeLatheError(
        f"Cannot read the report {path}: it has schema version {found!r} of {age} EdgeLathe and this one "
        f"reads version {known}; read it with the version that wrote it, or run again."
    )


def changed_candidate(name: str, path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot trust the report on "{name}": its file {path} {why}; run again to measure what is there now.'
    )


# --- data -------------------------------------------------------------------------------------------------


def root_needed(source: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot read the data source "{source}" without a folder: name it as root.')


def resize_without_size(resize: int, size: int | None) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot resize images to {resize} and cut out {size or 'nothing'}: give a size that is not larger."
    )


def no_image_folder(root: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot find images in {root}: it holds neither test/<class>/ nor val/<class>/ folders nor a "
        "labels.csv; arrange it as one of these."
    )


def no_array_files(root: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot find data in {root}: it holds no test*.npz; check the folder or choose another source."
    )


def pickled_cifar(root: Path, name: str, binary: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read {name} from {root}: it is the pickled Python version, and reading pickle runs code; "
        f"download the binary version ({binary}) instead."
    )


def empty_class(what: str, name: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use {what}: the class "{name}" has no images; add some or remove the class.')


def wrong_label_row(table: Path, line: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use line {line} of {table}: it must hold a file name inside images/ and a class number."
    )


def unequal_image_sizes(path: Path, shape: Shape, first: Path, first_shape: Shape) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the image {path} of {_by(shape)} pixels beside {first.name} of {_by(first_shape)}: set size."
    )


def too_large_for_memory(root: Path, count: int, needed: int, available: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot hold the {count} images of {root} in memory: they need {needed / 1e9:.1f} GB of "
        f"{available / 1e9:.1f} GB available; use a smaller size or fewer images."
    )


def wrong_images(what: str, shape: Shape, dtype: object, wanted: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {what} of type {dtype} and shape [{', '.join(map(str, shape))}]: "
        f"give uint8 (or floats in 0..1) of shape {wanted}."
    )


def wrong_range(what: str, low: float, high: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {what}: float pixels must lie in 0..1 and these reach from {low:g} to {high:g}; "
        "scale them or give uint8."
    )


def not_finite(what: str, index: int) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {what}: image {index} has NaN or infinite pixels; mend or remove it.")


def wrong_labels(what: str, shape: Shape, dtype: object, count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the labels of {what}, of type {dtype} and shape [{', '.join(map(str, shape))}]: "
        f"give one integer for each of the {count} images."
    )


def label_out_of_range(what: str, index: int, label: int, classes: int | None) -> EdgeLatheError:
    valid = "0 or more" if classes is None else f"0..{classes - 1}"
    return EdgeLatheError(
        f"Cannot use {what}: image {index} has the label {label}, which must be {valid}; mend the labels."
    )


def unequal_class_counts(name: str, found: int, asked: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {name} with num_classes = {asked}: it names {found} classes; leave num_classes out."
    )


def unequal_splits(name: str, train: Shape, test: Shape) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {name}: training images have the shape [{_by(train)}] and test images [{_by(test)}]; set size."
    )


def only_test_images(name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot calibrate on {name}: it has no training images, and test images must not be calibrated on; "
        "set holdout to put some of them apart."
    )


def holdout_with_train(name: str, n: int) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot hold {n} test images of {name} out: it has training images; leave holdout out.")


def wrong_count(what: str, name: str, n: int, valid: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {what} = {n} on {name}: it must be {valid}.")


def wrong_normalisation(key: str, values: Iterable[float], channels: int) -> EdgeLatheError:
    given = ", ".join(f"{value:g}" for value in values)
    return EdgeLatheError(
        f"Cannot normalise by {key} = [{given}]: give {channels} finite values, one per channel, and a std above 0."
    )


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))


# --- networks and weights ---------------------------------------------------------------------------------


def wrong_network_arguments(source: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot build {source} with these arguments: {why}; mend or remove them.")


def broken_weights(path: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read the weights {path}: the file is truncated or no checkpoint of PyTorch or safetensors; "
        "get it again."
    )


def weights_need_code(path: Path, name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read the weights {path}: it holds more than tensors ({name}) and reading it would run code; "
        "where you trust it, load it yourself and save model.state_dict() alone."
    )


def no_state_dict(path: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot find weights in {path}: it holds neither names with tensors nor a state_dict of them; "
        "save model.state_dict()."
    )


def weights_not_finite(path: Path, name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the weights {path}: {name} has NaN or infinite values; the training had diverged, "
        "take an earlier checkpoint."
    )


def other_network(
    path: Path, missing: Sequence[str], unexpected: Sequence[str], unequal: Sequence[str]
) -> EdgeLatheError:
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", unequal))
    found = "; ".join(f"{len(names)} tensors are {kind} ({_first(names)})" for kind, names in kinds if names)
    return EdgeLatheError(f"Cannot load the weights {path} into this network: {found}; check source and arguments.")


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def broken_structure(path: Path, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot rebuild the network from {path}: {why}; restore the file or save it again.")


def structure_needs_code(folder: Path, source: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rebuild the network in {folder}: it was made by {source}, and what a file says is not run; "
        "pass the function that builds it."
    )


# --- functions of users -----------------------------------------------------------------------------------


def user_file_failed(source: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {source}: it raised {why}; mend it and run again.")


def wrong_result(source: str, wanted: str, got: object) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {source}: it must return {wanted} and returned {type(got).__name__}.")


# --- quantization --------------------------------------------------------------------------------------------


def no_calibration_images() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot calibrate: there are no calibration images; give at least one, better 100 to 500 typical ones."
    )


def several_inputs(names: list[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot calibrate a model with {len(names)} inputs ({', '.join(names)}): only image models with one"
        " input are supported; split the other inputs off or make them constants."
    )


def calibration_shape(name: str, wanted: list[int | None], got: tuple[int, ...]) -> EdgeLatheError:
    shape = " x ".join("N" if dim is None else str(dim) for dim in wanted)
    return EdgeLatheError(
        f'Cannot calibrate input "{name}" of shape {shape} with images of shape {" x ".join(map(str, got))}:'
        " the shapes differ; check the size and channels of the data, or whether it is channels-last."
    )


def image_not_finite(index: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot calibrate with image {index}: it holds NaN or infinite values; repair or remove that image."
    )


def activation_not_finite(tensor: str, first: int, count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot calibrate tensor "{tensor}": it becomes NaN or infinite within images {first} to'
        f" {first + count - 1}; check that the float model works on them."
    )


def unknown_nodes(names: list[str], valid: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(f'No node or tensor of the model is named "{names[0]}": {nearest(names[0], valid)}')


# --- training, pruning, distillation -------------------------------------------------------------------------


def impossible_setting(name: str, value: object, valid: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {name} = {value}: it must be {valid}.")


def no_training_images(name: str, what: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot {what} on {name}: it has no training images; give some.")


def nothing_to_train() -> EdgeLatheError:
    return EdgeLatheError("Cannot train the network: all of its parameters are frozen; unfreeze some.")


def network_rejects_images(shape: Shape, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot run the network on images of shape [{_by(shape)}] (channels, height, width): {why}; "
        "give images of the size and channels it was made for."
    )


def too_few_logits(logits: int, classes: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot train a network with {logits} outputs on data with {classes} classes: set num_classes = {classes}."
    )


def unequal_logits(student: int, teacher: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot distil into a network with {student} outputs from a teacher with {teacher}: "
        "both must know the same classes; give a teacher trained on this data."
    )


def training_diverged(epoch: int, rate: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot go on training in epoch {epoch}: the loss is no longer a finite number at learning rate "
        f"{rate:g}; lower lr or add warmup and run again."
    )


def foreign_checkpoint(path: Path | str, different: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot continue from {path}: it belongs to a training that differs in {', '.join(different)}; "
        "restore those settings, or delete its folder to start this training afresh."
    )


# --- export -------------------------------------------------------------------------------------------------


def unsuitable_example(dtype: str, shape: tuple[int, ...]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot export with an example of type {dtype} and shape {list(shape)}: give a float32 tensor of "
        "shape [images, channels, height, width] with at least one image."
    )


def parameters_not_finite(name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot export the network: its parameter "{name}" holds NaN or infinite values; '
        "load good weights, or train again with a lower lr."
    )


def unsuitable_output(what: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot export the network: it returns {what} instead of one float32 tensor with the images along "
        "its first axis; wrap it in a module that returns the logits alone."
    )


def network_fixes_batch() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot export the network with a dynamic batch: its forward fixes the number of images; take that "
        "number from the input (x.flatten(1) instead of x.view(2, -1)), or export with dynamic_batch = false."
    )


def cannot_export(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot export the network to ONNX: {why}; rewrite that part of its forward with standard "
        "operations that do not depend on the values of the images."
    )


def bad_metadata(key: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use the metadata "{key}": {why}; correct it or export the model again.')


def too_few_inputs(count: int, batch: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot compare the exported model at batch {batch} with {count} inputs: give at least {batch} "
        "inputs, or smaller batches."
    )


def wrong_reference_output(shape: tuple[int, ...], count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot compare with a reference whose output has shape {list(shape)} for {count} inputs: it must "
        "be an array with one row per input."
    )


def bad_test_vectors(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use the test vectors {path}: {why}; export the model again to write new ones.")


def nothing_to_quantize(model: Path | str, reasons: list[str]) -> EdgeLatheError:
    common = max(set(reasons), key=reasons.count) if reasons else "it has no operators"
    return EdgeLatheError(
        f"Cannot quantize {model}: no operator of it can run in int8, most often because {common};"
        " keep the float model or give one with constant weights."
    )


def no_torch_operator(op: str, node: str, known: Iterable[str]) -> EdgeLatheError:
    near = difflib.get_close_matches(op, sorted(known), n=1, cutoff=0.8)
    hint = f" (it knows {near[0]})" if near else ""
    return EdgeLatheError(
        f'Cannot learn on the model: its operator {op} of the node "{node}" has no PyTorch counterpart here{hint};'
        " quantize without learned rounding and without training, or rewrite that part with common operators."
    )


def value_needs_input(wanted: Iterable[str], name: str, given: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot compute {", ".join(wanted)} from {", ".join(given) or "nothing"} alone: "{name}" is needed as well;'
        " give it, or every value that a path from it passes."
    )


def runtime_refuses(path: Path | str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"ONNX Runtime cannot open {path}: {why}; update onnxruntime or export the model for an older opset."
    )


# --- pruning -------------------------------------------------------------------------------------------------


def foreign_plan(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot apply the pruning plan to this network: {why}; "
        "apply it to the network that it was made for, or make a new plan."
    )


def cannot_trace(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot follow the channels through the network: {why}; prune another network, or leave pruning out."
    )


def nothing_prunable(reasons: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune channels of this network: no group of channels may be cut ({_some(reasons)}); leave pruning out."
    )


def unreachable_macs(keep: float, least: float, left: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot prune to {keep:.1%} of the MACs: with every prunable layer at its narrowest {least:.1%} remain "
        f"({_some(left)}); raise keep_macs or lower multiple."
    )


def bad_importance(layer: str, channels: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot rank the channels of {layer}: the criterion must return {channels} finite numbers; "
        "mend the criterion or the weights."
    )


def _some(reasons: Iterable[str]) -> str:
    listed = list(reasons)
    more = f"; and {len(listed) - 2} more" if len(listed) > 2 else ""
    return "; ".join(listed[:2]) + more if listed else "nothing was left alone"


# --- recipes and runs ----------------------------------------------------------------------------------------


def wrong_recipe(sentence: str) -> EdgeLatheError:
    """`recipe_errors.explain` words it, because what to say depends on what pydantic found."""
    return EdgeLatheError(sentence)


def bad_override(override: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use "--set {override}": {why}; write for example --set stages.0.keep_macs=0.4.')


def run_in_use(folder: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot run in {folder}: another process is running there; wait for it or give the recipe another name."
    )


def export_differs(path: str, reason: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"The exported file {path} does not compute what the PyTorch network computes ({reason}); raise"
        " export.tolerance only if you know why, else report the network's operators."
    )


def would_overwrite(path: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot write the int8 model over {path}: it is the float model itself; give another file with --output."
    )


def option_without_data(option: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {option} without --data: say what kind of data it is, for example --data folder."
    )


def calibration_needs_data() -> EdgeLatheError:
    return EdgeLatheError(
        "Cannot quantize without images to calibrate on: name them with --data and --root, for example"
        " --data folder --root photos --size 224 --holdout 64."
    )


# --- surgery -------------------------------------------------------------------------------------------------


def nothing_to_replace(
    to: str, replaceable: Sequence[str], found: Mapping[str, int], left: Sequence[str], do: str
) -> EdgeLatheError:
    listed = ", ".join(f"{count} {what}" for what, count in sorted(found.items())) or "no activation"
    why = f" ({_some(left)})" if left else ""
    return EdgeLatheError(
        f"Cannot replace activations by {to}: it stands in for modules that compute {_either(replaceable)}, the "
        f"network computes {listed}, and none of these may be replaced{why}; {do}."
    )


def nothing_to_drop(ignored: int) -> EdgeLatheError:
    if ignored:
        return EdgeLatheError(
            f"Cannot drop squeeze-and-excitation blocks: all {ignored} of the network are named in ignore; "
            "leave this stage out."
        )
    return EdgeLatheError(
        "Cannot drop squeeze-and-excitation blocks: no module of the network is one (two layers that weigh each "
        "channel by its mean over the image); leave this stage out, or make a module of code that stands in a forward."
    )


def name_without_effect(key: str, name: str, what: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use "{name}" in {key}: it holds no {what}; take it out of {key}.')


def foreign_surgery(why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot apply the surgery plan to this network: {why}; "
        "apply it to the network that it was made for, or make a new plan."
    )


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


# --- search --------------------------------------------------------------------------------------------------


def unreachable_weight_size(budget: float, least: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot bring the weights to {budget:g} of their size at eight bits: at the fewest bits they still take "
        f"{least:.2f} of it; ask for at least that."
    )


def too_few_to_judge(name: str, total: int, calibration: int, least: int) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot judge int8 files on the data set "{name}": of its {total} training images {calibration} are for '
        f"calibration, and at least {least} others are needed to judge on; use fewer images for calibration, or hold "
        "out more."
    )


# --- weights in other formats, and options that would do nothing ----------------------------------------------


def nothing_to_store(model: Path | str, format: str, reasons: list[str]) -> EdgeLatheError:
    common = max(set(reasons), key=reasons.count) if reasons else "it has no convolution or matrix product"
    return EdgeLatheError(
        f"Cannot store weights of {model} as {format}: none may be changed, most often because {common}; "
        "keep the file as it is."
    )


def stays_float_anyway(name: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot use "{name}" in keep_float: it stays float anyway ({why}); take it out of keep_float.'
    )


def opset_too_old(path: Path | str, found: int, oldest: int, need: str, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot raise {path} from opset {found} to {oldest}, which {need}: ONNX's version converter refuses it "
        f"({why}); export the model again with opset {oldest} or newer."
    )


def absorbed(name: str, reason: str) -> EdgeLatheError:
    return EdgeLatheError(
        f'Cannot use "{name}" in keep_float: in int8 it is no operator of its own but goes {reason}; '
        "name that operator instead."
    )


def unknown_method(method: str, valid: Iterable[str]) -> EdgeLatheError:
    return dynamic_quantization() if method == "dynamic" else unknown_choice("calibration method", method, valid)


def dynamic_quantization(where: str = "") -> EdgeLatheError:
    """`where` names what asked for it: a key of a recipe, or nothing."""
    asked = f", as {where} asks" if where else ""
    return EdgeLatheError(
        f"Cannot quantize dynamically{asked}: measuring ranges anew on every image makes convolution networks slower "
        'than float; leave method out, or write "mse", and they are measured once, on calibration images.'
    )
