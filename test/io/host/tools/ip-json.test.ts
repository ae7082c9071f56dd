import assert from 'node:assert/strict'
import {
  addressesOf,
  defaultDevice,
  outerDevices,
  parseLink,
  parseLinks,
  parseRoutes,
  parseRules
} from '../../../../src/io/host/tools/ip-json.ts'

describe('what ip prints as JSON', () => {
  it('gives a link with its kind', () => {
    const text =
      '[{"ifindex":4,"ifname":"wg0","flags":["POINTOPOINT","UP"],"mtu":1420,"linkinfo":{"info_kind":"tun","info_data":{}}}]'
    assert.deepEqual(parseLink(text), { name: 'wg0', kind: 'tun', mtu: 1420, up: true })
  })

  it('gives routes of both families, a default and a bare host among them', () => {
    const base = { source: undefined, protocol: '', type: 'unicast', gateways: [], mtu: undefined, metric: 0 }
    const four =
      '[{"dst":"default","gateway":"192.0.2.9","dev":"eth0"},{"type":"local","dst":"10.9.0.1","dev":"lo","protocol":"142","prefsrc":"192.0.2.1","flags":[]}]'
    assert.deepEqual(parseRoutes(four, 4), [
      { ...base, destination: '0.0.0.0/0', device: 'eth0', gateways: ['192.0.2.9'] },
      {
        ...base,
        destination: '10.9.0.1/32',
        device: 'lo',
        source: '192.0.2.1',
        protocol: '142',
        type: 'local'
      }
    ])
    const six =
      '[{"dst":"fd02::/64","dev":"wg0","protocol":"142","metric":1024,"metrics":[{"mtu":1328}],"flags":[],"pref":"medium"}]'
    assert.deepEqual(parseRoutes(six, 6), [
      { ...base, destination: 'fd02::/64', device: 'wg0', protocol: '142', mtu: 1328, metric: 1024 }
    ])
  })

  it('reads a table that does not exist as empty', () => {
    for (const text of ['', '\n', '[', '[]']) assert.deepEqual(parseRoutes(text, 4), [])
  })

  it('gives rules with their mark and whether it is negated', () => {
    const text =
      '[{"priority":0,"src":"all","table":"local"},{"priority":5142,"not":null,"src":"all","fwmark":"0x2000","fwmask":"0x2000","table":"5142","protocol":"142"},{"priority":9,"src":"all","fwmark":"0x1","table":"7"}]'
    assert.deepEqual(
      parseRules(text).map(({ preference, not, fwmark, fwmask }) => [preference, not, fwmark, fwmask]),
      [
        [0, false, 0, 0],
        [5142, true, 0x2000, 0x2000],
        [9, false, 1, 0xffff_ffff]
      ]
    )
  })

  it('gives the addresses of all devices', () => {
    const text =
      '[{"ifname":"lo","flags":[],"addr_info":[{"local":"127.0.0.1"},{"local":"::1"}]},{"ifname":"a","flags":[],"addr_info":[]},{}]'
    assert.deepEqual(addressesOf(parseLinks(text)), new Set(['127.0.0.1', '::1']))
  })

  it('takes the default route with the lowest metric', () => {
    const text = '[{"dst":"default","dev":"wlan0","metric":600},{"dst":"default","dev":"eth0","metric":100}]'
    assert.equal(defaultDevice(parseRoutes(text, 4)), 'eth0')
    assert.equal(defaultDevice([]), undefined)
  })

  it('rejects other shapes', () => {
    assert.throws(() => parseRoutes('[{"dest":1}]', 4))
    assert.throws(() => parseLink('{'))
  })
})

describe('what ip prints and is no such JSON', () => {
  for (const text of ['\u0007\uFFFD', '{"a":1}', '[5]', 'null', '[{'])
    it(`${JSON.stringify(text)} is an error that names the tool, in words`, () => {
      for (const parse of [parseLink, parseLinks, (each: string) => parseRoutes(each, 4), parseRules])
        assert.throws(() => parse(text), {
          code: 'TOOL_FAILED',
          message: 'ip ended with success, but its output has an unknown form'
        })
    })

  it('gives the devices by which packets come: no loopback, no ports, no ends of containers', () => {
    const link = (ifname: string, kind?: string, more: Readonly<Record<string, unknown>> = {}) => ({
      ifname,
      flags: ['UP'],
      ...(kind === undefined ? {} : { linkinfo: { info_kind: kind } }),
      addr_info: [{ local: 'fe80::1', scope: 'link' }],
      ...more
    })
    const global = { addr_info: [{ local: '192.0.2.1', scope: 'global' }] }
    const port = (ifname: string, kind: string, master: string) =>
      link(ifname, kind, { master, linkinfo: { info_kind: kind, info_slave_kind: 'bridge' } })
    const links = [
      link('lo', undefined, { flags: ['LOOPBACK', 'UP'] }),
      link('eth0', undefined, global),
      link('eth1'),
      link('eth2', undefined, { master: 'bond0', linkinfo: { info_slave_kind: 'bond' } }),
      link('bond0', 'bond', global),
      link('cali0', 'veth'),
      link('cilium_vxlan', 'vxlan'),
      link('docker0', 'bridge', global),
      port('veth1', 'veth', 'docker0'),
      link('br0', 'bridge', global),
      port('tap0', 'tun', 'br0'),
      link('eth3', undefined, { master: 'br0', linkinfo: { info_slave_kind: 'bridge' } }),
      link('empty0', 'bridge', global)
    ]
    const found = outerDevices(parseLinks(JSON.stringify(links)))
    const virtual = { isPhysical: false, holdsContainers: false }
    assert.deepEqual(found, [
      { name: 'eth0', isPhysical: true, holdsContainers: false },
      { name: 'eth1', isPhysical: true, holdsContainers: false },
      { name: 'bond0', ...virtual },
      { name: 'docker0', isPhysical: false, holdsContainers: true },
      { name: 'br0', ...virtual },
      { name: 'empty0', isPhysical: false, holdsContainers: true }
    ])
  })
})
