// A wrong command line of meshd.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { build, MESHD } from '../built.ts'

const meshd = (...args: readonly string[]) =>
  spawnSync(process.execPath, [MESHD, ...args], { encoding: 'utf8', timeout: 60_000 })

describe('meshd with a wrong command line', function () {
  before(build)

  const cases: readonly (readonly [args: readonly string[], says: RegExp])[] = [
    [['--bogus', '1'], /^meshd: unknown option '--bogus'\n {2}fix: `meshd --help` lists all /],
    [['--devise', 'x'], /^meshd: unknown option '--devise'\n {2}fix: Did you mean --device\? `meshd --help`/],
    [['--mtu'], /^meshd: option '--mtu <value>' argument missing\n {2}fix: `meshd --help`/],
    [['clean-up'], /^meshd: .*\n {2}fix: .*`meshd --help`/]
  ]
  for (const [args, says] of cases) {
    it(`${args.join(' ')}: ends with 2, and says the fix`, () => {
      const { status, stderr } = meshd(...args)
      assert.match(stderr, says)
      assert.equal(status, 2)
    })
  }
})
