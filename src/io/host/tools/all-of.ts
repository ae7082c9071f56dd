// Runs steps that do not depend on each other, such as those of cleanup: a step that fails must not prevent the others.

/** Runs all steps in order, also after one has failed. Rejects with the first error, after the last step. */
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
