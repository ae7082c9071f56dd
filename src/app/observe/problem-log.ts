// Writes the problems of the source (objects that are not exported, a folder that cannot be read) to the log: each
// once when it appears, and one line when all have gone. A source reports all its problems with every change, and a
// cluster may have a hundred lasting problems and ten changes a second; so the log is compared with the report
// before.
import type { Problem } from '../../core/catalog/catalog.ts'
import type { FaultText } from './health.ts'
import type { Log } from './log.ts'

/** Remembers the problems of the latest report, as JSON, to find those that are new. */
export class ProblemLog {
  readonly #log: Pick<Log, 'info' | 'warn' | 'error'>
  #last: readonly Problem[] = []
  #logged: ReadonlySet<string> = new Set()

  constructor(log: Pick<Log, 'info' | 'warn' | 'error'>) {
    this.#log = log
  }

  /** Takes all problems that the source has now. The same array as before is skipped without a comparison. */
  tell(problems: readonly Problem[]): void {
    if (problems === this.#last) return
    const texts = problems.map((problem) => JSON.stringify(problem))
    for (const [index, problem] of problems.entries()) {
      if (this.#logged.has(texts[index] ?? '')) continue
      const { level, ...fields } = problem
      this.#log[level === 'error' ? 'error' : 'warn'](fields, 'source')
    }
    if (problems.length === 0 && this.#last.length > 0) this.#log.info('source: all is well again')
    this.#last = problems
    this.#logged = new Set(texts)
  }
}

/**
 * Returns the problems of the source itself, such as an API server that does not answer, as faults for the registry
 * of health. Problems of single objects are not among them: `meshctl status` lists those beside the source.
 */
export function sourceFaults(
  problems: readonly Problem[]
): readonly (FaultText & { readonly subject: string })[] {
  return problems
    .filter(({ ofSource }) => ofSource === true)
    .map(({ file, message, fix = '', level }) => ({
      subject: file,
      message: `${file}: ${message}`,
      fix,
      severity: level
    }))
}
