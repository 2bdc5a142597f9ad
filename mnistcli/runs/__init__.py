"""A run's life, from the command line to what is left of it on the disk.

    words typed        cli.arguments         Recipe      how to train: one value for each question
    Recipe + options   cli                   Plan        what to train, where, on which machine
    Plan               plan.prepare          Shared      what all runs of a process share
                       engine.runtime        Runtime     how this machine computes; part of Shared
    Plan + Shared      single                Run         what one run is given
    Run                engine.state.create   TrainState  what training changes
    Run + TrainState   engine.train          events, checkpoints; outcome writes the result

Which folder: `resume` of a run, `set_folder` of a set. Many runs: `sets` trains them in one process
or several, `ledger` is the first rank's record, `missing` trains what a comparison lacks. `dry_run`
looks at all of it and writes nothing; `trained` opens what has been trained.
"""
