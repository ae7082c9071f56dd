// The webhook's decision: pod and settings in, JSON Patch out.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { dnsPatch, type DnsInjection } from '../../../src/core/kube/dns-injection.ts'

const SETTINGS: DnsInjection = {
  nameservers: ['10.96.0.53'],
  clusterDomain: 'cluster.local',
  searches: [],
  ndots: 5
}

describe('dnsPatch', () => {
  it('points a pod at the mesh, with the search list that ClusterFirst would have given it', () => {
    assert.deepEqual(patched({ spec: { dnsPolicy: 'ClusterFirst' } }), {
      dnsPolicy: 'None',
      dnsConfig: {
        nameservers: ['10.96.0.53'],
        searches: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
        options: [{ name: 'ndots', value: '5' }]
      }
    })
  })

  it('keeps what the pod asked for, after ours', () => {
    const dnsConfig = {
      nameservers: ['9.9.9.9', '10.96.0.53'],
      searches: ['corp.example', 'cluster.local'],
      options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }]
    }
    assert.deepEqual(
      patched({ spec: { dnsConfig } }, { ...SETTINGS, searches: ['svc.cluster.east'] })['dnsConfig'],
      {
        nameservers: ['10.96.0.53', '9.9.9.9'],
        searches: [
          'shop.svc.cluster.local',
          'svc.cluster.local',
          'cluster.local',
          'svc.cluster.east',
          'corp.example'
        ],
        options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }]
      }
    )
  })

  const alone: readonly [string, object][] = [
    ['that chose its DNS itself', { spec: { dnsPolicy: 'None' } }],
    ['that asks the node', { spec: { dnsPolicy: 'Default' } }],
    [
      'on the host network, where ClusterFirst means the node',
      { spec: { hostNetwork: true, dnsPolicy: 'ClusterFirst' } }
    ],
    ['that declines by label', { metadata: { labels: { 'rhizome.io/dns': 'false' } }, spec: {} }],
    ['that declines by annotation', { metadata: { annotations: { 'rhizome.io/dns': 'false' } }, spec: {} }],
    ['without a spec', { spec: 'x' }]
  ]
  for (const [what, pod] of alone) {
    it(`leaves a pod alone ${what}`, () => {
      assert.equal(dnsPatch(pod as never, 'shop', SETTINGS), undefined)
    })
  }

  it('leaves every pod alone while the address of the DNS is unknown', () => {
    assert.equal(dnsPatch({ spec: {} }, 'shop', { ...SETTINGS, nameservers: [] }), undefined)
  })

  it('does to any pod, once, what the API server accepts, and twice what once does', () => {
    const text = fc.stringMatching(/^[a-z0-9.-]{1,200}$/)
    const pods = fc.record({
      spec: fc.record(
        {
          dnsPolicy: fc.constantFrom('ClusterFirst', 'ClusterFirstWithHostNet'),
          dnsConfig: fc.oneof(
            fc.anything(),
            fc.record({
              nameservers: fc.array(text),
              searches: fc.array(text, { maxLength: 60 }),
              options: fc.array(fc.record({ name: text }))
            })
          )
        },
        { requiredKeys: [] }
      )
    })
    const settings = fc.record({
      nameservers: fc.array(text, { minLength: 1, maxLength: 6 }),
      clusterDomain: text,
      searches: fc.array(text, { maxLength: 60 }),
      ndots: fc.nat(15)
    })
    fc.assert(
      fc.property(pods, settings, (pod, settings) => {
        const spec = patched(pod, settings)
        const { nameservers, searches } = spec['dnsConfig'] as { nameservers: string[]; searches: string[] }
        assert.ok(nameservers.length >= 1 && nameservers.length <= 3)
        assert.ok(searches.length <= 32 && searches.join(' ').length <= 2048, `${searches.join(' ').length}`)
        assert.equal(new Set(searches).size, searches.length)
        assert.equal(searches[0], `shop.svc.${settings.clusterDomain}`)
        assert.equal(dnsPatch({ spec }, 'shop', settings), undefined)
      })
    )
  })
})

/** The spec after the patch. */
function patched(pod: object, settings = SETTINGS): Record<string, unknown> {
  const patch = dnsPatch(pod as never, 'shop', settings)
  assert.ok(patch !== undefined)
  const spec = { ...(pod as { spec: Record<string, unknown> }).spec }
  for (const { path, value } of patch) spec[path.replace('/spec/', '')] = value
  return spec
}
