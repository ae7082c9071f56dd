// What is read from the kernel without a tool is what `ip` and `wg` print, in a network with all that is odd.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { requireLab } from './support/require.ts'

const SCRIPT = fileURLToPath(new URL('support/read-network.ts', import.meta.url))

describe('readings without a tool', () => {
  let found: Readonly<Record<string, readonly [unknown, unknown]>>

  before(function () {
    requireLab(this)
    const device = `wg${randomBytes(4).toString('hex')}`
    const text = execFileSync('unshare', ['--net', process.execPath, SCRIPT, device], {
      encoding: 'utf8',
      maxBuffer: 64 << 20
    })
    found = JSON.parse(text) as typeof found
  })

  it('are made in fact', () => {
    assert.deepEqual(found['isWhole'], [true, true])
    assert.ok(Object.keys(found).length > 30)
  })

  it('are equal to what the tools print: links, routes of each table, rules, WireGuard', () => {
    const different = Object.entries(found).filter(
      ([, [kernel, tool]]) => JSON.stringify(sorted(kernel)) !== JSON.stringify(sorted(tool))
    )
    for (const [name, [kernel, tool]] of different) assert.deepEqual(sorted(kernel), sorted(tool), name)
  })
})

/**
 * A list in an order of its own, because the kernel and the tools have each their own. `ip` prints some protocols only, so
 * that of one route, which another program has put into our table, is compared.
 */
function sorted(value: unknown): unknown {
  if (!Array.isArray(value)) return value
  return value
    .map((each: Readonly<Record<string, unknown>>) => {
      const { protocol, ...rest } = each
      const compared = protocol === '143' ? each : rest
      return JSON.stringify(compared, Object.keys(compared).sort())
    })
    .sort()
}
