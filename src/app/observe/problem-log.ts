// Problems of the source in the log: each once, when it comes, and a word when all are gone. A source tells all that it has with every
// change, and a cluster may have a hundred lasting ones and ten changes a second.
import type { Problem } from '../../core/catalog/catalog.ts'
import type { FaultText } from './health.ts'
import type { Log } from './log.ts'

export class ProblemLog {
  readonly #log: Pick<Log, 'info' | 'warn' | 'error'>
  #last: readonly Problem[] = []
  #logged: ReadonlySet<string> = new Set()

  constructor(log: Pick<Log, 'info' | 'warn' | 'error'>) {
    this.#log = log
  }

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

/** What is wrong with the source itself, for the registry of health. The problems of single objects stand in the status of the source. */
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
