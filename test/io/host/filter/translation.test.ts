// The text of the filter of a cluster whose addresses are translated. What the kernel does with it is in
// test/lab/translation.test.ts.
import assert from 'node:assert/strict'
import type { Filter } from '../../../../src/core/host/host-state.ts'
import { createNftFilter, createNoFilter } from '../../../../src/io/host/filter/filter.ts'
import { TranslatedSources } from '../../../../src/io/host/translated-sources.ts'
import type { Cidr, Ip } from '../../../../src/core/model/values.ts'

const FILTER: Filter = {
  remoteSources: ['10.129.0.0/16' as Cidr],
  localDestinations: ['10.1.0.0/16' as Cidr, 'fd00:1::/48' as Cidr],
  probePort: 7947,
  mtu: 1420
}
const TRANSLATED: Filter = {
  ...FILTER,
  translatedPods: ['10.1.0.0/16 10.128.0.0/16', 'fd00:1::/48 fd72:6800::/48']
}

const nft = createNftFilter({
  run: async () => assert.fail('no tool is run'),
  names: { nftTable: 'rhizome', device: 'wg0' }
})
const of = (filter: Filter): readonly string[] => nft.describe(filter).join('\n').split('\n')

describe('the filter of a translated cluster', () => {
  it('adds its maps, chains and rules, and changes one rule of the others', () => {
    const [plain, translated] = [of(FILTER), of(TRANSLATED)]
    const added = translated.filter((line) => !plain.includes(line)).map((line) => line.trim())
    const gone = plain.filter((line) => !translated.includes(line)).map((line) => line.trim())
    assert.deepEqual(added, [
      'map translated4 {',
      'type ipv4_addr : interval ipv4_addr',
      'elements = { 10.128.0.0/16 : 10.1.0.0/16 }',
      'map translated6 {',
      'type ipv6_addr : interval ipv6_addr',
      'elements = { fd72:6800::/48 : fd00:1::/48 }',
      'chain unreal {',
      'type filter hook prerouting priority -290; policy accept;',
      'iifname "wg0" ip saddr != @nodes4 ip daddr 10.1.0.0/16 counter drop',
      'iifname "wg0" ip6 saddr != @nodes6 ip6 daddr fd00:1::/48 counter drop',
      'chain translate-in {',
      'iifname "wg0" dnat ip prefix to ip daddr map @translated4',
      'iifname "wg0" dnat ip6 prefix to ip6 daddr map @translated6',
      'oifname "wg0" ip saddr 10.1.0.0/16 ip daddr @remote4 snat ip prefix to 10.128.0.0/16',
      'oifname "wg0" ip6 saddr fd00:1::/48 ip6 daddr @remote6 snat ip6 prefix to fd72:6800::/48',
      'oifname "wg0" ip saddr != { 0.0.0.0, 169.254.0.0/16 } ip daddr != 224.0.0.0/4 ip saddr != 10.128.0.0/16 ip saddr != @local4 ip saddr != @remote4 update @stray4 { ip saddr }',
      'oifname "wg0" ip6 saddr != { ::, fe80::/10 } ip6 daddr != ff00::/8 ip6 saddr != fd72:6800::/48 ip6 saddr != @local6 ip6 saddr != @remote6 update @stray6 { ip6 saddr }'
    ])
    // The sources that went into the tunnel as they should are no strays.
    assert.ok(gone.every((line) => line.includes('update @stray')) && gone.length === 2, gone.join('\n'))
  })

  it('translates a destination before the DNAT of others, which can come at any priority above -198', () => {
    const lines = of(TRANSLATED).map((line) => line.trim())
    const at = lines.indexOf('chain translate-in {')
    assert.equal(lines[at + 1], 'type nat hook prerouting priority -198; policy accept;')
  })

  it('translates a source before the rule that keeps it, and after the hairpin', () => {
    const keep = of(TRANSLATED).filter((line) => /snat|masquerade/.test(line))
    const at = (pattern: RegExp) => keep.findIndex((line) => pattern.test(line))
    assert.ok(at(/@hairpin6/) < at(/snat ip prefix/))
    assert.ok(at(/snat ip6 prefix/) < at(/snat ip to ip saddr/))
  })

  it('is refused with the fix where the kernel has no nftables; without a translation it is not', async () => {
    const { signal } = new AbortController()
    const said: string[] = []
    const none = createNoFilter({ warn: (text) => said.push(text) })
    await assert.rejects(none.set(TRANSLATED, signal), {
      code: 'NO_TRANSLATION',
      fix: /kernel with nftables/
    })
    await none.set(FILTER, signal)
    assert.equal(said.length, 1)
  })
})

describe('the address to which replies go', () => {
  it('is virtual for a backend behind the tunnel, real for one of this cluster, and unknown before the filter', () => {
    const sources = new TranslatedSources()
    const [pod, own, remote] = ['10.1.0.11', '10.1.0.12', '10.129.0.11'] as [Ip, Ip, Ip]
    assert.equal(sources.replyTo({ source: pod, ip: remote }), undefined)
    sources.use(TRANSLATED)
    assert.equal(sources.replyTo({ source: pod, ip: remote }), '10.128.0.11')
    assert.equal(sources.replyTo({ source: pod, ip: own }), pod)
    assert.equal(sources.replyTo({ source: '192.0.2.1' as Ip, ip: remote }), '192.0.2.1')
    sources.use(FILTER)
    assert.equal(sources.replyTo({ source: pod, ip: remote }), pod)
  })
})
