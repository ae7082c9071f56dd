// A question that a tool answers by its exit code.
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'

/** Whether the tool ended well; a missing tool counts as no. Errors: HostError where a deadline or a missing permission left no answer. */
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
