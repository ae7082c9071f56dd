// What /readyz, the first lines and the metrics say of the registry of health.
import assert from 'node:assert/strict'
import { healthReport } from '../../../src/app/admin/health-report.ts'
import { notReady } from '../../../src/app/admin/readiness.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import { nodesWithoutAgent } from '../../../src/app/sources/node-coverage.ts'
import type { Cidr } from '../../../src/core/model/values.ts'

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined }
const registry = (): Health => new Health({ log: SILENT, now: () => 1000 })
const fault = { message: 'no tunnel answers', fix: 'open UDP 51820' }

function unjoined(
  health: Health,
  more: { readonly joining?: boolean; readonly isToldToJoin?: boolean; readonly isMember?: boolean } = {}
) {
  return {
    session: undefined,
    source: { snapshot: { services: [], endpointSlices: [] }, problems: [], whole: true },
    joining: false,
    isToldToJoin: false,
    isMember: false,
    isLeaving: false,
    health,
    ...more
  }
}

describe('readiness', () => {
  it('an agent that nothing has told to join does what it was told: it waits', () => {
    assert.equal(notReady(unjoined(registry())), undefined)
  })

  it('an agent with a token is not ready before a member has accepted it', () => {
    assert.match(
      notReady(unjoined(registry(), { isToldToJoin: true })) ?? '',
      /has not joined the mesh of its token/
    )
    assert.match(notReady(unjoined(registry(), { joining: true })) ?? '', /no member has accepted it yet/)
  })

  it('a member is not ready while its session has not started yet, as after a restart', () => {
    assert.match(
      notReady(unjoined(registry(), { isMember: true })) ?? '',
      /the session .* has not started yet/
    )
  })

  it('a critical fault makes it not ready, with the fix; an error of one part does not', () => {
    const health = registry()
    health.set('DNS_FAILED', { severity: 'error', ...fault })
    assert.equal(notReady(unjoined(health)), undefined)
    health.set('DATAPLANE_OFF', { severity: 'critical', ...fault })
    assert.equal(notReady(unjoined(health)), 'no tunnel answers; open UDP 51820')
    health.clear('DATAPLANE_OFF')
    assert.equal(notReady(unjoined(health)), undefined)
  })

  it('is the same in the answer and in the metrics', async () => {
    const health = registry()
    const metrics = createMetrics()
    health.replace(
      'TUNNEL_DOWN',
      Array.from({ length: 25 }, (_, n) => ({ severity: 'error' as const, subject: `c${n}`, ...fault }))
    )
    health.set('DATAPLANE_OFF', { severity: 'critical', ...fault })
    metrics.tellHealth(health)
    const { state, faults, more } = healthReport(health)
    assert.deepEqual(
      [state, faults[0]?.code, faults.length, more],
      ['critical', 'DATAPLANE_OFF', 21, { TUNNEL_DOWN: 5 }]
    )
    const text = await metrics.registry.metrics()
    assert.match(text, /^rhizome_faults\{code="TUNNEL_DOWN",severity="error"\} 25$/m)
    assert.match(text, /^rhizome_faults\{code="DATAPLANE_OFF",severity="critical"\} 1$/m)
    health.clear('DATAPLANE_OFF')
    metrics.tellHealth(health)
    assert.doesNotMatch(await metrics.registry.metrics(), /DATAPLANE_OFF/)
  })
})

describe('nodes without an agent', () => {
  const node = (name: string, podCidr?: string) => ({
    name,
    podCidrs: podCidr === undefined ? [] : [podCidr as Cidr],
    isLinux: true,
    zone: ''
  })

  it('are named with what helps in this cluster', () => {
    const nodes = [node('a', '10.1.0.0/24'), node('b', '10.1.1.0/24')]
    assert.equal(nodesWithoutAgent(nodes, ['a', 'b']), undefined)
    assert.equal(nodesWithoutAgent(nodes, []), undefined, 'not in the mesh yet')
    assert.equal(nodesWithoutAgent(nodes, ['gateway-vm']), undefined, 'a gateway outside the cluster')
    const one = nodesWithoutAgent(nodes, ['a'])
    assert.match(one?.message ?? '', /^pods on 1 of 2 nodes \(b\) /)
    assert.match(one?.fix ?? '', /--mode nodes/)
    assert.equal(nodesWithoutAgent([node('a'), { ...node('b'), isLinux: false }], ['a']), undefined)
    const pools = nodesWithoutAgent([node('a'), node('b')], ['b'])
    assert.match(pools?.fix ?? '', /label rhizome\.io\/gateway/)
    const many = nodesWithoutAgent(
      Array.from({ length: 9 }, (_, n) => node(`n${n}`, `10.1.${n}.0/24`)),
      ['n0']
    )
    assert.match(many?.message ?? '', /^pods on 8 of 9 nodes \(n1, n2, n3 and 5 more\) /)
  })
})
