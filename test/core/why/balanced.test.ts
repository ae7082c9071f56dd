// The stops of a connection to the address of a balanced service.
import assert from 'node:assert/strict'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import type { Cidr, Ip } from '../../../src/core/model/values.ts'
import { balancedServices } from '../../../src/core/view/balanced.ts'
import { balancedWay } from '../../../src/core/why/balanced.ts'
import { cluster, meshOf, port, service } from '../dns/fixtures.ts'

const web = service('shop/web', ['10.2.0.1'], { ports: [port('http', 80)], balance: 'failover=west' })
const balanced = balancedServices(meshOf(cluster('east', { services: [web] })), {
  prefix: '240.240.0.0/16' as Cidr
})
const ip = balanced.get('shop/web')?.address ?? ('' as Ip)

const hostOf = (backends: readonly string[] | undefined) => ({
  have: {
    ...EMPTY_HOST,
    virtualServers:
      backends === undefined
        ? []
        : [
            {
              vip: ip,
              protocol: 'TCP' as const,
              port: 80,
              scheduler: 'rr' as const,
              affinitySeconds: 0,
              realServers: backends.map((backend) => ({ ip: backend as Ip, port: 8080, weight: 1 }))
            }
          ]
  },
  whyMissing: () => 'the next pass sets it',
  overlap: () => undefined,
  loadBalancer: 'nftables'
})

const ends = (backends: readonly string[] | undefined, at: { port?: number } = {}) => {
  const way = balancedWay({ ip, ...at }, { balanced, host: hostOf(backends) })
  return way?.stops.map(({ stop, state }) => `${stop} ${state}`).join(', ')
}

describe('why, for the address of a balanced service', () => {
  it('names the policy, the port and the endpoints', () => {
    assert.equal(ends(['10.1.0.1']), 'service ok, port ok, balancer ok')
    const [first] = balancedWay({ ip }, { balanced, host: hostOf([]) })?.stops ?? []
    assert.match(
      first?.text ?? '',
      /web\.shop\.svc\.cluster\.all in this cluster; the policy of east .*failover=west/
    )
  })

  it('ends at a port that does not exist, at a missing virtual server and at an empty one', () => {
    assert.equal(ends(['10.1.0.1'], { port: 81 }), 'service ok, port fault')
    assert.equal(ends(undefined), 'service ok, port ok, balancer fault')
    assert.equal(ends([]), 'service ok, port ok, balancer fault')
  })

  it('says nothing of other addresses', () => {
    assert.equal(balancedWay({ ip: '10.2.0.1' as Ip }, { balanced, host: hostOf([]) }), undefined)
  })
})
