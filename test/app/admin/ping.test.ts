import assert from 'node:assert/strict'
import type { AgentState } from '../../../src/app/admin/agent-state.ts'
import { pingRoute } from '../../../src/app/admin/routes/ping.ts'
import type { Ip } from '../../../src/core/model/values.ts'
import { startProber } from '../../../src/io/probe/probe.ts'

const PORT = 17951
const WEST = '127.0.0.77'
const EAST = '127.0.0.78' as Ip

const TUNNEL_UP: object = { state: 'up' }

/** An agent of west whose tunnel to the one gateway of east has this state. */
function agent({ tunnel = TUNNEL_UP, hasHost = true, hasAddress = true, probePort = PORT } = {}): AgentState {
  const gateway = {
    node: 'east-gw',
    role: 'gateway',
    tunnelAddress: EAST,
    probePort,
    multiaddrs: [],
    wireguardAddresses: ['203.0.113.12:51820']
  }
  const clusters = new Map<string, object>([
    ['west', { name: 'west', agents: [] }],
    ['east', { name: 'east', agents: [{ origin: 'e', agent: gateway }] }],
    ['bare', { name: 'bare', agents: [] }]
  ])
  return {
    host: hasHost ? {} : undefined,
    hostFault: 'wg is missing',
    health: {
      faults: () => [{ code: 'CLUSTER_DOWN', subject: 'east', fix: 'let UDP 51820 pass' }]
    },
    session: {
      control: { view: () => ({ self: 'west', clusters }) },
      facts: { nodeAddress: hasAddress ? WEST : undefined },
      paths: {
        tunnels: { of: () => tunnel },
        node: { carriers: () => undefined },
        ways: { of: () => undefined }
      }
    }
  } as unknown as AgentState
}

describe('GET /v1/ping', () => {
  const request = { cluster: 'east', count: 3, intervalMs: 50 }

  it('has the loss and the round trips of each gateway', async () => {
    const prober = await startProber({ address: EAST, port: PORT, intervalMs: 1000 })
    try {
      const { verdict, gateways } = await pingRoute(agent())(request)
      const [row] = gateways
      assert.equal(verdict, 'answered')
      assert.deepEqual([row?.sent, row?.received, row?.lossPercent, row?.refused], [3, 3, 0, 0])
      assert.deepEqual(
        [row?.node, row?.path, row?.address, row?.tunnel, row?.reason],
        ['east-gw', 'direct', EAST, 'up', undefined]
      )
      assert.equal(row?.rttsMs.length, 3)
      assert.ok((row?.rtt?.min ?? 0) <= (row?.rtt?.max ?? -1))
    } finally {
      await prober.stop()
    }
  })

  it('tries a tunnel that is down, with its reason and the fix', async () => {
    const tunnel = { state: 'down', reason: 'no answer through the tunnel for 12 s' }
    // Nothing listens, so the kernel refuses: what is not lost is no loss.
    const refused = await pingRoute(agent({ tunnel }))(request)
    assert.equal(refused.verdict, 'answered')
    const [row] = refused.gateways
    assert.deepEqual([row?.received, row?.refused, row?.lossPercent], [0, 3, 0])
    assert.match(row?.reason ?? '', /meshd does not run there/)
    assert.equal(row?.fix, 'let UDP 51820 pass')
  })

  it('sends nothing where nothing can be sent, and says why', async () => {
    for (const [state, reason] of [
      [agent({ hasHost: false }), /this host has no tunnel: wg is missing/],
      [agent({ hasAddress: false }), /no address inside its pod prefixes \(setting node-address\)/],
      [agent({ probePort: 0 }), /east-gw answers no probes/]
    ] as const) {
      const { verdict, gateways } = await pingRoute(state)(request)
      assert.equal(verdict, 'silent')
      assert.deepEqual([gateways[0]?.sent, gateways[0]?.lossPercent], [0, 100])
      assert.match(gateways[0]?.reason ?? '', reason)
    }
    assert.deepEqual(await pingRoute(agent())({ ...request, cluster: 'bare' }), {
      verdict: 'silent',
      gateways: []
    })
  })

  it('refuses its own cluster, an unknown one, and more than four at a time', async () => {
    const route = pingRoute(agent())
    await assert.rejects(route({ ...request, cluster: 'west' }), { code: 'OWN_CLUSTER' })
    await assert.rejects(route({ ...request, cluster: 'nowhere' }), { code: 'UNKNOWN_CLUSTER' })
    const running = [1, 2, 3, 4].map(() => route(request))
    await assert.rejects(route(request), { code: 'TOO_MANY_PINGS' })
    await Promise.all(running)
    assert.equal((await route(request)).gateways.length, 1)
  })
})
