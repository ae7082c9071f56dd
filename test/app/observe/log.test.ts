import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'

const MODULE = resolve(import.meta.dirname, '../../../src/app/observe/log.ts')
const SECRET = 'hunter2hunter2hunter2'

/** What a log with this format writes to standard error for the statements. */
function logged(format: string, statements: string): string {
  const script = `import { createLog } from ${JSON.stringify(MODULE)}
const log = createLog({ 'log-level': 'info', 'log-format': ${JSON.stringify(format)} })
const secret = ${JSON.stringify(SECRET)}
${statements}`
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8'
  })
  assert.equal(status, 0, stderr)
  return stderr
}

describe('the log', () => {
  for (const format of ['json', 'text']) {
    it(`cuts fields that hold secrets (${format})`, () => {
      const fields = ['seed', 'privateKey', 'token', 'nodeSeed', 'clusterSeed', 'rootSeed', 'inviteSeed']
      const text = logged(
        format,
        [...fields, 'tunnelSeed']
          .map((field) => `log.info({ ${field}: secret, identity: { ${field}: secret } }, 'event')`)
          .join('\n')
      )
      assert.doesNotMatch(text, new RegExp(SECRET))
      assert.equal(text.match(/\[secret\]/g)?.length, 16)
    })
  }

  it('writes one JSON object a line, with time, level and fields', () => {
    const line = logged('json', `log.warn({ cluster: 'east' }, 'peer up')\nlog.debug('not shown')`)
    const event = JSON.parse(line) as Record<string, unknown>
    assert.deepEqual(
      { ...event, time: typeof event['time'] },
      { level: 'warn', time: 'string', cluster: 'east', msg: 'peer up' }
    )
  })

  it('tells an error by message, code and fix, without its stack', () => {
    const line = logged(
      'text',
      `log.error({ err: Object.assign(new Error('no'), { code: 'X', fix: 'do' }) }, 'failed')`
    )
    assert.match(line, /error failed {2}err=\{"message":"no","code":"X","fix":"do"\}/)
    assert.doesNotMatch(line, / at /)
  })

  it('keeps an event on one line, whatever text a file name or a peer put into it (text)', () => {
    const hostile = [
      'a\n2026-01-01T00:00:00.000Z error forged',
      '\u001b[2J\u001b[31m',
      'a\r\u0085\u2028b\u007f'
    ]
    const text = logged(
      'text',
      hostile
        .map((each) => `log.warn({ file: ${JSON.stringify(each)} }, 'event ' + ${JSON.stringify(each)})`)
        .join('\n')
    )
    assert.equal(text.split(/[\n\r\u0085\u2028]/).length, hostile.length + 1)
    // oxlint-disable-next-line no-control-regex
    assert.doesNotMatch(text.replaceAll('\n', ''), /[\u0000-\u001f\u007f-\u009f]/)
  })
})
