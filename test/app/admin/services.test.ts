// GET /v1/services says how the exports of clusterset.local differ: a site without an API server has no conditions.
import assert from 'node:assert/strict'
import { servicesRoute } from '../../../src/app/admin/routes/services.ts'
import type { AgentState } from '../../../src/app/admin/agent-state.ts'
import { NO_TRANSLATION } from '../../../src/core/model/translation.ts'
import type { Cidr, ClustersetExport } from '../../../src/core/model/values.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import { balancedServices } from '../../../src/core/view/balanced.ts'
import { cluster, meshOf, port, service } from '../../core/dns/fixtures.ts'

function exporter(name: string, number: number, exportedAt: number) {
  const clusterset: ClustersetExport = {
    exportedAt,
    ipFamilies: [4],
    internalTrafficPolicy: 'Cluster',
    trafficDistribution: '',
    labels: [],
    annotations: []
  }
  const made = service('shop/web', ['10.2.0.1'], { ports: [port('http', number)] })
  return cluster(name, { services: [{ ...made, service: { ...made.service, clusterset } }] })
}

async function conflictOf(portOfWest: number): Promise<string | undefined> {
  const view = meshOf(exporter('east', 80, 1000), exporter('west', portOfWest, 2000))
  const session = {
    control: { view: () => view },
    membership: { translation: NO_TRANSLATION },
    balancing: {
      services: () => balancedServices(view, { prefix: '240.240.0.0/16' as Cidr }),
      facts: () => ({ self: view.self, isWithdrawn: () => false, rttMs: () => undefined })
    }
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only what the route reads
  const state = {
    session,
    settings: resolveSettings({ flags: {}, env: {}, file: undefined })
  } as unknown as Pick<AgentState, 'session' | 'settings'>
  const { balanced } = await servicesRoute(state)({})
  assert.equal(balanced?.[0]?.dnsName, 'web.shop.svc.clusterset.local')
  return balanced[0].conflict
}

describe('the services of the admin API', () => {
  it('say how exports differ and which one counts, and nothing where they agree', async () => {
    assert.match(
      (await conflictOf(81)) ?? '',
      /^exports of Service shop\/web differ in ports \(cluster west\) from that of cluster east, which is the oldest/
    )
    assert.equal(await conflictOf(80), undefined)
  })
})
