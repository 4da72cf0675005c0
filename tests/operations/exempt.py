"""Functions that write files and that the harness does not run, each with the reason."""

from __future__ import annotations

_FILLS = "fills a folder that `artifacts.write_folder` moves, or a file beside others of it"
_LOCK = "opens an empty lock file, whose content nobody reads"
_ONE = "removes one file or makes one folder or link: one step"
_LINES = "appends lines; half of one is read as none (tests/stages/runtime/test_measurements.py)"
_OTHERS = "files of git, DVC or MLflow, written by them; killed in `make faults` and `make machines`"

_REMOTE = "writes to the DVC remote, what names it last; folders that come from there are filled aside and moved"

EXEMPT = {
    "pipeline.workers.checkpoint_transfer.pull": _REMOTE,
    "pipeline.workers.checkpoint_transfer.push": _REMOTE,
    "stages.core.recordio.writer.RecordWriter.__enter__": _FILLS,
    "stages.datasets.insightface_rec.write": _FILLS,
    "stages.datasets.verification_bin.write": _FILLS,
    "stages.report_all._write": _FILLS,
    "stages.report_all.write": _FILLS,
    "stages.synthesis.layouts._write_mat": _FILLS,
    "stages.synthesis.layouts.write_ijb": _FILLS,
    "stages.synthesis.layouts.write_lines": _FILLS,
    "stages.synthesis.layouts.write_scface": _FILLS,
    "stages.synthesis.layouts.write_tinyface": _FILLS,
    "stages.synthesis.layouts_other_sets.write_adience": _FILLS,
    "stages.synthesis.layouts_other_sets.write_ijbs": _FILLS,
    "stages.synthesis.layouts_other_sets.write_xqlfw": _FILLS,
    "stages.synthesize.Studio.write_eval": _FILLS,
    "stages.synthesize.Studio.write_train": _FILLS,
    "stages.evaluate.fill": _FILLS,
    "stages.io.class_names.write": _FILLS,
    "stages.quality.scores_file.keep": _FILLS,
    "stages.tools.demo_video.mp4": "writes to a temporary folder, and reads back what arrived there",
    "stages.tools.quality_pages.fill": _FILLS,
    "stages.training.positions._write": _FILLS + "; copies of another manifest go first, and nobody needs them",
    "pipeline.execution.dvc_patches.QueuedLock._acquire": _LOCK,
    "pipeline.tracking.store.alone": _LOCK,
    "pipeline.workspaces.snapshot.kept": _LOCK,
    "pipeline.flow.launch.enter_prefect": _ONE,
    "pipeline.servers.servers._commands": _ONE,
    "pipeline.servers.servers.down": _ONE,
    "pipeline.tracking.recorded_ids.forget": _ONE,
    "pipeline.workers.input_transfer._link_own": _ONE,
    "stages.runtime.pin.refuse_in_the_way": _ONE,
    "pipeline.board.snapshot.clear": _ONE,
    "pipeline.follow.alone": _ONE + "; the pid is written aside",
    "stages.runtime.initial_folders.write": _ONE + ", of each run; the text is written aside",
    "stages.tools.draw.main": _ONE + "; pictures are made in memory and written aside",
    "stages.tools.show.main": _ONE + "; the page is written aside",
    "stages.run_page.head_figures.HeadFigure.write": "a picture in memory",
    "stages.runtime.measurements.Measurements._append": _LINES,
    "stages.runtime.measurements.Measurements.begin": _LINES,
    "stages.runtime.measurements.Measurements.write": _ONE + "; the curve is written aside",
    "stages.runtime.gpu_rest.note": "a mark whose time alone is read; half of its text marks as well",
    "stages.runtime.followers.spawn": "the log of the follower, which the follower writes",
    "stages.tools.score.main": _ONE + "; the rest is `scores of pictures`",
    "stages.training.checkpoints.Checkpoints._give_up": "runs only after a fault: those of the case `checkpoint`",
    "pipeline.execution.deferred_commit.keep": "a note that is written over and compared as a whole; half of it is no note",
    "pipeline.servers.daemons.spawn": "the log of a server, which the server writes",
    "pipeline.tracking.store._create_or_upgrade": _OTHERS,
    "pipeline.flow.training_run._remove": "moves a workspace aside, whose results have all been sent, and removes it there",
    "pipeline.workers.code_transfer.check_out": _OTHERS,
    "pipeline.workers.code_transfer.snapshot": "a temporary folder of its own",
    "pipeline.workers.result_transfer.publish": _OTHERS,
    "stages.tools._writing.check": "a temporary folder of its own",
    "pipeline.execution.fork_server._work": "a pipe",
    "stages.runtime.program.reader_has_gone": "/dev/null",
    "stages.runtime.program._record_imports": "for a test alone, never in a run of a person's",
}
