// What a start of a program loads: a user waits for it at each command, and a script that runs meshctl in a loop pays for it each time.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { build, SHIPPED } from '../built.ts'

/** Modules of Node that take long to load. The WebSocket that node:http exports is what brings undici in. */
const HEAVY = {
  // Its host edge starts child processes, and its API is an HTTP server.
  [SHIPPED.meshd]: ['undici'],
  [SHIPPED.meshctl]: ['undici', 'tls', 'https', 'child_process', 'worker']
}

const REPORT = `data:text/javascript,process.on('exit',()=>console.error(process.moduleLoadList.join('\\n')))`

describe('the start of a program', function () {
  before(build)

  for (const [program, heavy] of Object.entries(HEAVY)) {
    it(`${program.replace(/^.*\//, '')} loads nothing that only few commands need`, () => {
      const { status, stderr } = spawnSync(process.execPath, ['--import', REPORT, program, '--help'], {
        encoding: 'utf8',
        timeout: 60_000
      })
      assert.equal(status, 0, stderr)
      const loaded = stderr.split('\n').map((line) => line.replace(/^NativeModule (internal\/deps\/)?/, ''))
      assert.ok(loaded.includes('fs'), 'Node did not list what it has loaded')
      assert.deepEqual(
        heavy.filter((name) => loaded.some((each) => each === name || each.startsWith(`${name}/`))),
        []
      )
    })
  }
})
