package storage

// Points at which tests cut or fail what is written beside the journal. An error that Options.faults returns at a point is
// taken for one of the operation's own; "before" means that nothing was written, "after" that all of it was.
const (
	pointLogBefore      = "before a log file is created"
	pointLogCreated     = "log file created, before rename"
	pointLogRenamed     = "log file renamed, before use"
	pointSealBefore     = "before the seal's commit"
	pointSealAfter      = "after the seal's commit"
	pointForwardBefore  = "log files are to be rewritten"
	pointForwardWritten = "rewritten file complete, before rename"
	pointForwardRenamed = "rewritten file renamed, before those it replaces are unlinked"
	pointForwardUnlink  = "a file that was replaced is unlinked"
	pointForwardDone    = "all that was replaced is unlinked"
	pointSweep          = "a file of which nothing is left is unlinked"
	pointApplyBefore    = "before the checkpoint's commit"
	pointApplyAfter     = "after the checkpoint's commit"
	pointCopyBefore     = "before the checkpoint's copy"
	pointCopyAfter      = "after the checkpoint's copy"
)
