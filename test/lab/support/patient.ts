// The host's tools with deadlines as long as this machine needs.
import type { Run } from '../../../src/io/host/ports.ts'
import { slowness } from '../../eventually.ts'

// As in src/io/host/tools/run.ts.
const TOOL_DEADLINE_MS = 10_000

export function patient(run: Run): Run {
  if (slowness() === 1) return run
  const slow: Run = (tool, args, options = {}) =>
    run(tool, args, { ...options, deadlineMs: (options.deadlineMs ?? TOOL_DEADLINE_MS) * slowness() })
  return run.kernel === undefined ? slow : Object.assign(slow, { kernel: run.kernel })
}
