// The runner on files of its own: what fails beside others runs once more, alone, and what fails again is the last that the run says.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

describe('the runner of the tests', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-runner-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  function file(name: string, body: string): string {
    const path = join(folder, `${name}.test.cjs`)
    writeFileSync(
      path,
      `const fs = require('node:fs')\ndescribe('${name}', () => { it('holds', () => { ${body} }) })\n`
    )
    return path
  }

  function run(...files: readonly string[]) {
    const own = join(folder, 'run')
    mkdirSync(own)
    const { stdout, status } = spawnSync(process.execPath, ['test/runner/main.ts', own, ...files], {
      encoding: 'utf8'
    })
    return { lines: stdout.trim().split('\n'), status }
  }

  it('says exit code 0 and how many passed', () => {
    const { lines, status } = run(file('one', ''), file('two', ''))
    assert.equal(status, 0, lines.join('\n'))
    assert.match(lines.join('\n'), /^test: 2 passing in 1 tasks/m)
  })

  it('names a file that fails beside others and passes alone, and the run passes', () => {
    const mark = join(folder, 'mark')
    const once = `if (!fs.existsSync('${mark}')) { fs.writeFileSync('${mark}', ''); throw new Error('too early') }`
    const path = file('once', once)
    const { lines, status } = run(path)
    assert.equal(status, 0, lines.join('\n'))
    assert.match(lines.join('\n'), /^test: failed beside other files and passed alone: .*once\.test\.cjs$/m)
    assert.match(lines.join('\n'), /^test: after \d+ s, in .*: failed: once holds: too early$/m)
  })

  it('fails where a file fails again, and the last lines name the failure', () => {
    const { lines, status } = run(file('never', `throw new Error('at all')`))
    assert.equal(status, 1, lines.join('\n'))
    assert.match(lines.slice(-3).join('\n'), /^test: failed: never holds: at all \(/m)
  })

  it('fails where mocha ends early and names no failure', () => {
    const { lines, status } = run(file('early', 'process.exit(7)'))
    assert.equal(status, 1, lines.join('\n'))
    assert.match(lines.slice(-3).join('\n'), /ended with exit code 7 and named no failure$/m)
  })
})
