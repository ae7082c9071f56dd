/** Runs all steps in order, even if one fails. Errors: throws the first error after the last step. */
export async function allOf(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failed: unknown[] = []
  for (const step of steps) {
    try {
      await step()
    } catch (error) {
      failed.push(error)
    }
  }
  if (failed.length > 0) throw failed[0]
}
