import assert from 'node:assert/strict'
import { LogRing } from '../../../src/app/observe/log-ring.ts'
import { createLog } from '../../../src/app/observe/log.ts'

describe('the latest lines of the log', () => {
  it('are the last ones, at most 2,000, and the number of the others is known', () => {
    const ring = new LogRing()
    for (let index = 0; index < 9001; index++) ring.write(`${index}\n`)
    const { lines, left } = ring.read()
    assert.deepEqual([lines.length, lines[0], lines.at(-1), left], [2000, '7001\n', '9000\n', 7001])
  })

  it('take at most 512 KiB, however long each is', () => {
    const ring = new LogRing()
    for (let index = 0; index < 500; index++) ring.write(`${'x'.repeat(index * 100)}\n`)
    const { lines, left } = ring.read()
    const characters = lines.reduce((sum, { length }) => sum + length, 0)
    assert.ok(characters <= 512 * 1024 && characters > 500 * 1024, `${characters}`)
    assert.equal(lines.length + left, 500)
    assert.equal(lines.at(-1), `${'x'.repeat(4096)}…\n`)
  })

  it('are those of the logger, without the secrets that it hides', () => {
    const ring = new LogRing()
    const log = createLog({ 'log-level': 'warn', 'log-format': 'json' }, ring)
    log.info('too fine')
    log.warn({ token: 'rzm2_x', peer: 'east' }, 'a test line')
    const [line = '', ...more] = ring.read().lines
    assert.deepEqual(more, [])
    const { level, msg, token, peer } = JSON.parse(line) as Record<string, unknown>
    assert.deepEqual(
      { level, msg, token, peer },
      { level: 'warn', msg: 'a test line', token: '[secret]', peer: 'east' }
    )
  })
})
