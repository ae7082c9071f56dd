// Waits for a condition with a deadline: the one way in which tests meet real time.

/** Errors: the last error of the condition, or "not within …". */
export async function eventually(condition: () => unknown, deadlineMs = 10_000): Promise<void> {
  const end = performance.now() + deadlineMs
  for (;;) {
    let failure: unknown
    try {
      if (await condition()) return
    } catch (error) {
      failure = error
    }
    if (performance.now() > end)
      throw failure ?? new Error(`not within ${deadlineMs} ms: ${condition.toString()}`)
    await new Promise((resolve) => {
      setTimeout(resolve, 5)
    })
  }
}
