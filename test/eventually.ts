// Waits for a condition with a deadline: the one way in which tests meet real time. The deadline is long, so that a slow machine fails no test.

/** How many times longer everything takes here than on an ordinary machine: the guest's kernel runs on a translated CPU. */
export const slowness = Number(process.env['RHIZOME_SLOWNESS'] ?? 1)

/** The deadline is for an ordinary machine. Errors: the last error of the condition, or "not within …". */
export async function eventually(condition: () => unknown, deadlineMs = 30_000): Promise<void> {
  const end = performance.now() + deadlineMs * slowness
  for (;;) {
    let failure: unknown
    try {
      if (await condition()) return
    } catch (error) {
      failure = error
    }
    if (performance.now() > end)
      throw failure ?? new Error(`not within ${deadlineMs * slowness} ms: ${condition.toString()}`)
    await new Promise((resolve) => {
      setTimeout(resolve, 5)
    })
  }
}
