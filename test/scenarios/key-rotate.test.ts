// `meshctl key rotate` with real WireGuard: flows go on, a killed agent and a member that was away find their way back.
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type { KeyRotatedAnswer } from '../../src/api/membership-answers.ts'
import type { Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { startFlow, type FlowResult } from '../lab/support/counted-flow.ts'
import { inStep, raise, reaches, refused, status, unite } from './harness.ts'

// At this rate, 128 packets (the queue of WireGuard) are 6 s: more than a rotation takes on a busy machine. Each number
// is one datagram and about one segment of TCP.
const SLOW = 10
const FAST = 2000

describe('meshctl key rotate', () => {
  const { site } = raise('rotate', ['west', 'east', 'edge'])
  const [west, east, edge] = [() => site('west'), () => site('east'), () => site('edge')]

  before(async () => {
    await unite(west(), east(), edge())
    for (const [from, to] of pairs(west(), east(), edge())) await reaches(from, to)
  })

  it('loses no packet of flows below the queue of WireGuard, in both directions', async () => {
    const key = (await status(west())).wireguardKey
    const results = await during(SLOW, async () => {
      const answer = await west().ask<KeyRotatedAnswer>('key', 'rotate')
      assert.deepEqual([answer.before, answer.pending], [key, undefined])
      assert.notEqual(answer.wireguardKey, key)
    })
    for (const { sent, lost, lostTcp } of results) {
      assert.ok(sent > SLOW, String(sent))
      assert.deepEqual([lost, lostTcp], [[], 0])
    }
    const now = (await status(west())).wireguardKey
    for (const other of [east(), edge()]) await hasPeer(other, now, key)
    await inStep(west())
  })

  it('loses of a fast flow what does not fit the queue, and nothing after that', async function () {
    const results = await during(FAST, async () => {
      await west().ask<KeyRotatedAnswer>('key', 'rotate')
    })
    for (const { sent, lost, lostTcp } of results) {
      const gapMs = lost.length === 0 ? 0 : (((lost.at(-1) ?? 0) - (lost[0] ?? 0)) * 1000) / FAST
      process.stderr.write(
        `    ${FAST} packets a second: ${lost.length} of ${sent} lost within ${Math.round(gapMs)} ms\n`
      )
      assert.equal(lostTcp, 0)
      assert.ok((lost.at(-1) ?? 0) - (lost[0] ?? 0) < 5 * FAST, 'one gap')
    }
  })

  it('is undone by no kill -9, and found by a member that was away', async () => {
    await edge().stop('SIGKILL')
    const { wireguardKey } = await west().ask<KeyRotatedAnswer>('key', 'rotate')
    await west().stop('SIGKILL')
    await west().start()
    assert.equal((await status(west())).wireguardKey, wireguardKey)
    await reaches(east(), west())
    await edge().start()
    await reaches(edge(), west())
    await reaches(west(), edge())
    await hasPeer(edge(), wireguardKey)
  })

  it('is refused while no member would hear of it', async () => {
    await Promise.all([east().stop('SIGKILL'), edge().stop('SIGKILL')])
    await eventually(async () => {
      assert.match(await refused(west().ctl('key', 'rotate')), /no member is connected/)
      return true
    }, 60_000)
  })

  /** Does this while flows of this rate go from west to east and back, and counts them. */
  async function during(rate: number, act: () => Promise<void>): Promise<readonly FlowResult[]> {
    let results: readonly FlowResult[]
    const flows = await Promise.all([
      startFlow(west().pod(0).namespace, east().pod(0), rate),
      startFlow(east().pod(1).namespace, west().pod(1), rate)
    ])
    try {
      await pause(1000)
      await act()
      await pause(3000)
    } finally {
      results = await Promise.all(flows.map((flow) => flow.end()))
    }
    return results
  }
})

async function hasPeer(site: Site, key: string | undefined, gone = ''): Promise<void> {
  await eventually(async () => {
    const { stdout } = await site.gateway.exec(['wg', 'show', site.device, 'allowed-ips'])
    assert.ok(stdout.includes(`${key}\t10.`), stdout)
    assert.ok(gone === '' || !stdout.includes(gone), stdout)
    return true
  }, 30_000)
}

function pairs(...sites: readonly Site[]): readonly (readonly [Site, Site])[] {
  return sites.flatMap((from) => sites.filter((to) => to !== from).map((to) => [from, to] as const))
}
