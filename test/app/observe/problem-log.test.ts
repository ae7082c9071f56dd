import assert from 'node:assert/strict'
import { ProblemLog, sourceFaults } from '../../../src/app/observe/problem-log.ts'
import { Health } from '../../../src/app/observe/health.ts'
import type { Problem } from '../../../src/core/catalog/catalog.ts'

const LASTING: Problem = {
  file: 'kubernetes',
  where: 'shop/node',
  message: 'Local to each node',
  level: 'warning'
}
const OUTAGE: Problem = {
  file: 'https://api',
  where: 'services',
  message: 'no answer',
  level: 'error',
  ofSource: true
}
const refused = (file: string): Problem => ({
  file,
  where: 'line 3, Service shop/web: spec.ports',
  message: 'spec.ports must be a list',
  fix: 'write a list of ports',
  level: 'error'
})

/** The log, and the lines that problems and faults leave there. */
function logged() {
  const lines: string[] = []
  const line =
    (level: string) =>
    (fields: unknown, text?: string): void => {
      const message = text === undefined || text === 'source' ? (fields as Problem).message : text
      lines.push(`${level} ${typeof fields === 'string' ? fields : message}`)
    }
  return { lines, log: { info: line('info'), warn: line('warn'), error: line('error') } }
}

describe('the log of problems', () => {
  it('has each once while it lasts, again when it comes again, and a word when all are gone', () => {
    const { lines, log } = logged()
    const problemLog = new ProblemLog(log)
    const other = { ...LASTING, message: 'not resolved' }
    for (const problems of [[], [LASTING], [{ ...LASTING }], [other, LASTING], [LASTING], [other], [], []])
      problemLog.tell(problems)
    assert.deepEqual(lines, [
      'warn Local to each node',
      'warn not resolved',
      'warn not resolved',
      'info source: no problems are left'
    ])
  })

  it('has each of 30 refused manifests once, those that the registry of health lists from there', () => {
    const { lines, log } = logged()
    const problems = Array.from({ length: 30 }, (_, n) => refused(`${n}.yaml`))
    new ProblemLog(log).tell(problems)
    new Health({ log, now: Date.now }).replace('MANIFESTS', sourceFaults(problems))
    assert.equal(lines.length, 30)
    assert.equal(lines.filter((line) => line === 'error spec.ports must be a list').length, 10)
  })
})

describe('problems of the source in the registry of health', () => {
  it('are those of the source itself, and each object that is not published with its file and fix', () => {
    assert.deepEqual(sourceFaults([LASTING, OUTAGE, refused('a.yaml')]), [
      {
        subject: 'https://api, services',
        message: 'https://api, services: no answer',
        fix: '',
        severity: 'error'
      },
      {
        subject: 'a.yaml, line 3, Service shop/web: spec.ports',
        message: 'a.yaml, line 3, Service shop/web: spec.ports must be a list',
        fix: 'write a list of ports',
        severity: 'warning'
      }
    ])
  })
})
