// Writes the problems of the source (objects that are not exported, a folder that cannot be read) to the log: each
// once when it appears, and one line when all have gone. A source reports all its problems with every change, and a
// cluster may have a hundred lasting problems and ten changes a second; so the log is compared with the report
// before. Problems that the registry of health lists are logged there.
import type { Problem } from '../../core/catalog/catalog.ts'
import { problemPlace } from '../../core/catalog/problem-place.ts'
import { LISTED_MAX, type FaultText } from './health.ts'
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
    const listed = new Set(problems.filter(isFault).slice(0, LISTED_MAX))
    for (const [index, problem] of problems.entries()) {
      if (listed.has(problem) || this.#logged.has(texts[index] ?? '')) continue
      const { level, ...fields } = problem
      this.#log[level === 'error' ? 'error' : 'warn'](fields, 'source')
    }
    if (problems.length === 0 && this.#last.length > 0) this.#log.info('source: no problems are left')
    this.#last = problems
    this.#logged = new Set(texts)
  }
}

/**
 * Returns the faults of the registry of health: problems of the source itself, such as an API server that does not
 * answer, and objects that are not published. The latter are warnings, so that they never come before a part that does
 * not work. Objects that are published in spite of a problem are no faults: `meshctl status` lists them beside the
 * source.
 */
export function sourceFaults(
  problems: readonly Problem[]
): readonly (FaultText & { readonly subject: string })[] {
  return problems.filter(isFault).map(({ file, where, message, fix = '', level, ofSource }) => ({
    subject: [file, ...(where === undefined ? [] : [where])].join(', '),
    message: `${[file, ...problemPlace(where, message)].join(', ')}: ${message}`,
    fix,
    severity: ofSource === true ? level : 'warning'
  }))
}

function isFault({ ofSource, level }: Problem): boolean {
  return ofSource === true || level === 'error'
}
