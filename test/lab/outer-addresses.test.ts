// What one agent sends to third parties when a member publishes their addresses: counted on a real kernel.
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { DIAL_BURST, DIALS_PER_SECOND } from '../../src/core/model/dial-budget.ts'
import { eventually } from '../eventually.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { requireLab } from './support/require.ts'

const DIAL = fileURLToPath(new URL('support/dial-process.ts', import.meta.url))
const SECONDS = 20
const AGENTS = 19

describe('the addresses of third parties that a member publishes', function () {
  let lab: Lab
  let host: Namespace

  before(async function () {
    requireLab(this)
    lab = await Lab.create('outer-addresses.test')
    host = await lab.namespace('host')
    const world = await lab.namespace('world')
    await lab.link(host, 'eth0', ['203.0.113.1/24', 'fd03::1/64'], world, 'eth0', [
      '203.0.113.2/24',
      'fd03::2/64'
    ])
    await host.exec(['ip', 'route', 'add', 'default', 'via', '203.0.113.2'])
    await host.exec(['ip', 'route', 'add', 'default', 'via', 'fd03::2'])
    await host.exec(['nft', '-f', '-'], { input: COUNTING })
  })
  after(async () => {
    await lab?.close()
  })

  /** Packets that leave the host, in SECONDS, while it dials the targets. */
  async function sent(targets: readonly object[]): Promise<number> {
    await host.exec(['nft', 'reset', 'counters'])
    const child = host.spawn([process.execPath, DIAL, JSON.stringify(targets)])
    let said = ''
    child.stdout?.on('data', (text: Buffer) => (said += text.toString()))
    await eventually(() => said.includes('dialling'))
    await pause(SECONDS * 1000)
    child.kill('SIGKILL')
    const { stdout } = await host.exec(['nft', 'list', 'counters'])
    return Number(/packets (\d+)/.exec(stdout)?.[1])
  }
  const targets = (addressOf: (agent: number, n: number) => string) =>
    Array.from({ length: AGENTS }, (_, agent) => ({
      origin: undefined,
      group: 'east',
      addresses: Array.from({ length: 16 }, (_, n) => addressOf(agent, n))
    }))
  const allowed = DIAL_BURST + SECONDS * DIALS_PER_SECOND + 1

  for (const [family, addressOf] of [
    ['IPv4', (agent: number, n: number) => `/ip4/198.51.${agent}.${n}/tcp/22`],
    ['IPv6', (agent: number, n: number) => `/ip6/2001:db8:${agent}::${n + 1}/tcp/22`]
  ] as const)
    it(`get less than one packet per second in all, however many there are, ${family}`, async () => {
      const packets = await sent(targets(addressOf))
      assert.ok(packets > 0 && packets <= allowed, `${packets} packets, allowed ${allowed}`)
      assert.ok(packets < SECONDS)
    })

  it('share the bound of their cluster only: each cluster has its own', async () => {
    const own = (group: string, net: number) => ({ group, addresses: [`/ip4/198.18.${net}.1/tcp/22`] })
    const packets = await sent([...targets((agent, n) => `/ip4/198.51.${agent}.${n}/tcp/22`), own('west', 1)])
    assert.ok(
      packets > DIAL_BURST && packets <= allowed + 1 + DIAL_BURST + SECONDS * DIALS_PER_SECOND,
      String(packets)
    )
  })
})

const COUNTING = `table inet count {
  counter out { }
  chain output {
    type filter hook output priority 0; policy accept;
    ip daddr { 198.51.0.0/16, 198.18.0.0/16 } counter name out
    ip6 daddr 2001:db8::/32 counter name out
  }
}
`
