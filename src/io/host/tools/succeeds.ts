// Asks a tool a question that it answers by its exit code. Detection of load balancers uses it.
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'

/**
 * Returns whether the tool ended with success. A tool that is missing counts as a no. `stdin` goes through a file
 * (RunOptions.stdinAsFile). Errors: HostError without an answer (TOOL_TIMEOUT, NOT_ROOT, OUTPUT_TOO_LARGE).
 */
export async function succeeds(
  run: Run,
  tool: string,
  args: readonly string[],
  stdin?: string
): Promise<boolean> {
  try {
    await run(tool, args, stdin === undefined ? {} : { stdin, stdinAsFile: true })
    return true
  } catch (error) {
    if (error instanceof HostError && (error.code === 'TOOL_FAILED' || error.code === 'TOOL_MISSING'))
      return false
    throw error
  }
}
