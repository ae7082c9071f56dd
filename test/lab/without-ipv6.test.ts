// A real kernel without IPv6: what needs it is named, and everything else is done.
import assert from 'node:assert/strict'
import { testProgram } from '../programs.ts'
import { guestRequirements, runInGuest } from './support/guest.ts'
import { requireLab } from './support/require.ts'

const TREE = new URL('../..', import.meta.url).pathname

describe('a host whose kernel has no IPv6', () => {
  before(function () {
    requireLab(this)
    const reason = guestRequirements()
    if (reason === undefined) return
    console.error(`SKIPPED: ${reason}`)
    this.skip()
  })

  it('does all that IPv4 needs, and names what it cannot do', async function () {
    this.timeout(1_300_000)
    const result = await runInGuest({
      cwd: TREE,
      argv: [process.execPath, testProgram('lab/guest/without-ipv6')],
      kernelArguments: 'ipv6.disable=1'
    })
    const line = result.output.split('\n').find((text) => text.startsWith('{'))
    assert.ok(line !== undefined, `${result.output.slice(-3000)}\n${result.console.slice(-3000)}`)
    const { left, steps, parts } = JSON.parse(line) as Record<'left' | 'steps' | 'parts', string[]>
    assert.deepEqual(parts, [])
    assert.deepEqual(left, ['setSysctl', 'addRoute fd00:2::/64', 'addVip fd92::/108'])
    assert.equal(steps.length, 3)
    for (const step of steps) assert.match(step, /IPV6_OFF.*IPv6/)
  })
})
