import assert from 'node:assert/strict'
import { ProblemLog } from '../../../src/app/observe/problem-log.ts'
import type { Problem } from '../../../src/core/catalog/catalog.ts'

const LASTING: Problem = {
  file: 'kubernetes',
  where: 'shop/node',
  message: 'Local to each node',
  level: 'warning'
}
const OUTAGE: Problem = { file: 'https://api', where: 'services', message: 'no answer', level: 'error' }

describe('the log of problems', () => {
  it('has each once while it lasts, again when it comes again, and a word when all are gone', () => {
    const lines: string[] = []
    const line =
      (level: string) =>
      (fields: unknown): void => {
        lines.push(`${level} ${typeof fields === 'string' ? fields : (fields as Problem).message}`)
      }
    const log = new ProblemLog({ info: line('info'), warn: line('warn'), error: line('error') })
    for (const problems of [[], [LASTING], [{ ...LASTING }], [OUTAGE, LASTING], [LASTING], [OUTAGE], [], []])
      log.tell(problems)
    assert.deepEqual(lines, [
      'warn Local to each node',
      'error no answer',
      'error no answer',
      'info source: all is well again'
    ])
  })
})
