import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { agentValueOf, localFacts } from '../../../src/app/session/local-facts.ts'
import { nodeNameOf } from '../../../src/app/settings/setting-values.ts'
import { misspeltEnvironment } from '../../../src/app/settings/misspelt.ts'
import { envOf, resolveSettings, SETTINGS, type Settings } from '../../../src/app/settings/settings.ts'
import { SettingsError } from '../../../src/app/settings/settings-file.ts'
import { parseIp } from '../../../src/core/model/cidr.ts'
import { decodeValue, encodeValue } from '../../../src/core/wire/value-codec.ts'
import type { Cidr, TunnelKey } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'

const ORIGIN = originOf(createCrypto().publicKeyOf(new Uint8Array(32).fill(1)))
const KEY: TunnelKey = {
  edKey: Buffer.alloc(32, 3).toString('base64'),
  proof: Buffer.alloc(64, 1).toString('base64')
}

function names(settings: Settings): readonly string[] {
  return [...settings.announce, ...settings['wireguard-address']].flatMap((address) =>
    address.kind === 'name' ? [address.name] : []
  )
}

describe('settings', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'settings-'))
  })
  after(() => rmSync(folder, { recursive: true }))

  function fileOf(text: string): string {
    const path = join(folder, 'meshd.yaml')
    writeFileSync(path, text)
    return path
  }

  it('come from the flag, else the environment, else the file, else the default', () => {
    const flags = { device: 'flag0' }
    const env = { RHIZOME_DEVICE: 'env0' }
    const file = fileOf('device: file0\n')
    assert.equal(resolveSettings({ flags, env, file }).device, 'flag0')
    assert.equal(resolveSettings({ flags: {}, env, file }).device, 'env0')
    assert.equal(resolveSettings({ flags: {}, env: {}, file }).device, 'file0')
    assert.equal(resolveSettings({ flags: {}, env: {}, file: undefined }).device, 'rhizome0')
  })

  it('are whole by default, each with a help text', () => {
    const settings = resolveSettings({ flags: {}, env: {}, file: undefined })
    assert.deepEqual(Object.keys(settings), Object.keys(SETTINGS))
    for (const [key, { help }] of Object.entries(SETTINGS)) assert.ok(help.length > 10, key)
  })

  it('read lists and numbers from text', () => {
    const env = { RHIZOME_DNS_LISTEN: '10.1.0.1:53, [::1]:53', RHIZOME_WIREGUARD_PORT: '4000' }
    const settings = resolveSettings({ flags: {}, env, file: undefined })
    assert.deepEqual(settings['dns-listen'], [
      { host: '10.1.0.1', port: 53 },
      { host: '::1', port: 53 }
    ])
    assert.equal(settings['wireguard-port'], 4000)
    assert.equal(envOf('dns-listen'), 'RHIZOME_DNS_LISTEN')
  })

  const bad: readonly (readonly [key: string, value: string])[] = [
    ['device', 'Too-Long-A-Name-For-Linux'],
    ['device', 'x; reboot'],
    ['mtu', '100'],
    ['mtu', 'large'],
    ['wireguard-port', '70000'],
    ['wireguard-port', '1.5'],
    ['dataplane', 'maybe'],
    ['load-balancer', 'iptables'],
    ['scheduler', 'random'],
    ['drain-seconds', '-1'],
    ['keepalive-seconds', '9999'],
    ['log-level', 'loud'],
    ['log-format', 'xml'],
    ['state-dir', ''],
    ['node-name', ''],
    ['node-name', 'Gateway-East'],
    ['node-name', 'gw_1'],
    ['node-name', 'gw.'],
    ['node-name', 'gw..example'],
    ['node-name', 'bücher'],
    ['node-name', 'x'.repeat(64)],
    ['node-name', Array.from({ length: 64 }, () => 'abc').join('.')],
    ['device', 'rhizome0.100'],
    ['device', 'rhi/zome'],
    ['device', 'rhizome000000000'],
    ['device', 'lo'],
    ['device', 'all'],
    ['device', '..'],
    ['wireguard-port', '0'],
    ['wireguard-port', ''],
    ['wireguard-port', '0x10'],
    ['wireguard-port', '7947'],
    ['wireguard-address', '0.0.0.0:51820'],
    ['wireguard-address', '203.0.113.9:0'],
    ['wireguard-address', '203.0.113.900'],
    ['wireguard-address', '[203.0.113.9]:51820'],
    ['wireguard-address', '2001:db8::1:99999999'],
    ['wireguard-address', 'fe80::1'],
    ['wireguard-address', 'gw_1.example.com'],
    ['wireguard-address', 'https://gw.example.com'],
    ['wireguard-address', Array.from({ length: 17 }, (_, index) => `203.0.113.${index}`).join()],
    ['announce', '/ip4/203.0.113.9/udp/7946'],
    ['announce', '/ip6/203.0.113.9/tcp/7946'],
    ['announce', '/ip4/gw.example.com/tcp/7946'],
    ['announce', '/ip4/203.0.113.9/tcp/7946/p2p/12D3KooW'],
    ['announce', '/ip4/0.0.0.0/tcp/7946'],
    ['listen', '/dns4/gw.example.com/tcp/7946'],
    ['listen', '/ip4/10.0.0.1/tcp/70000'],
    ['listen', 'eth0'],
    ['node-address', '10.2.0.1/24'],
    ['node-address', '10.2.0'],
    ['node-address', '0.0.0.0'],
    ['node-address', '10.2.0.1:53'],
    ['dns-listen', '10.0.0.1:'],
    ['dns-listen', '10.0.0.1:99999'],
    ['dns-listen', 'off,10.0.0.1'],
    ['dns-listen', 'dns.example.com'],
    ['dns-upstream', 'ns.example.com'],
    ['dns-upstream', 'none,10.0.0.1'],
    ['dns-upstream', '10.0.0.1:0'],
    ['http-listen', '9465'],
    ['feed-listen', '127.0.0.1:-1'],
    ['webhook-listen', 'auto'],
    ['socket', `/run/${'x'.repeat(110)}`],
    ['drain-seconds', ''],
    ['drain-seconds', '3 days'],
    ['drain-seconds', '3601'],
    ['keepalive-seconds', '500ms'],
    ['export-namespaces', 'shop,Blog'],
    ['export-selector', 'a in ('],
    ['cluster-domain', '-bad-']
  ]
  for (const [key, value] of bad) {
    it(`refuse ${key} = ${JSON.stringify(value)}, naming key and source`, () => {
      for (const [sources, origin] of [
        [{ flags: { [key]: value }, env: {}, file: undefined }, `flag --${key}`],
        [{ flags: {}, env: { [envOf(key)]: value }, file: undefined }, `environment ${envOf(key)}`],
        [{ flags: {}, env: {}, file: fileOf(`${key}: ${JSON.stringify(value)}\n`) }, `key ${key} of`]
      ] as const) {
        assert.throws(() => resolveSettings(sources), {
          code: 'BAD_SETTING',
          message: new RegExp(`settings? ${key} (\\(${origin}.* The setting is: |and probe-port)`),
          fix: /\w/
        })
      }
    })
  }

  it('give an example with the port that the setting is about', () => {
    for (const [key, fix] of [
      ['announce', /gw\.example\.com:7946/],
      ['wireguard-address', /203\.0\.113\.7:51820/]
    ] as const)
      assert.throws(() => resolveSettings({ flags: { [key]: 'foo:bar' }, env: {}, file: undefined }), { fix })
  })

  const good: readonly (readonly [key: keyof Settings, value: unknown, parsed: unknown])[] = [
    ['dns-listen', '10.0.0.1', [{ host: '10.0.0.1', port: 53 }]],
    ['dns-listen', 'fd00::1', [{ host: 'fd00::1', port: 53 }]],
    ['dns-listen', ['auto', '[::1]:5353'], ['auto', { host: '::1', port: 5353 }]],
    ['dns-listen', 'off', 'off'],
    [
      'dns-upstream',
      '10.0.0.2, [fd00::2]:5353,/etc/resolv.conf',
      ['10.0.0.2', '[fd00::2]:5353', '/etc/resolv.conf']
    ],
    ['http-listen', 'localhost', { host: '127.0.0.1', port: 9465 }],
    ['http-listen', '[::]:80', { host: '::', port: 80 }],
    ['wireguard-address', '203.0.113.9', [{ kind: 'ip', ip: '203.0.113.9', port: 0 }]],
    ['wireguard-address', '2001:DB8::1', [{ kind: 'ip', ip: '2001:db8::1', port: 0 }]],
    ['wireguard-address', '[2001:db8::1]:4', [{ kind: 'ip', ip: '2001:db8::1', port: 4 }]],
    [
      'wireguard-address',
      'GW.example.com.:5',
      [{ kind: 'name', name: 'gw.example.com', port: 5, family: undefined }]
    ],
    [
      'announce',
      '/dns6/gw.example.com/tcp/1',
      [{ kind: 'name', name: 'gw.example.com', port: 1, family: 6 }]
    ],
    ['announce', '203.0.113.9,203.0.113.9', [{ kind: 'ip', ip: '203.0.113.9', port: 0 }]],
    ['listen', '10.0.0.1', ['/ip4/10.0.0.1/tcp/7946']],
    ['listen', '[::]:80,/ip4/0.0.0.0/tcp/0', ['/ip6/::/tcp/80', '/ip4/0.0.0.0/tcp/0']],
    ['drain-seconds', '2m', 120],
    ['drain-seconds', '500ms', 0.5],
    ['drain-seconds', 1.5, 1.5],
    ['keepalive-seconds', '25s', 25],
    ['balance-local', true, 'on'],
    ['dataplane', false, 'off'],
    ['http-listen', false, 'off'],
    ['dns-listen', false, 'off'],
    ['feed-listen', false, 'off'],
    ['webhook-listen', false, 'off'],
    ['export-namespaces', [], []],
    ['cluster-domain', 'cluster.local.', 'cluster.local'],
    ['node-address', 'FD00:2::1', 'fd00:2::1']
  ]
  for (const [key, value, parsed] of good) {
    it(`take ${key} = ${JSON.stringify(value)}`, () => {
      const settings = resolveSettings({ flags: { [key]: value }, env: {}, file: undefined })
      assert.deepEqual(settings[key], parsed)
    })
  }

  it('say what to write instead', () => {
    const fixOf = (flags: Readonly<Record<string, unknown>>): string | undefined => {
      try {
        resolveSettings({ flags, env: {}, file: undefined })
      } catch (error) {
        return (error as SettingsError).fix
      }
      return assert.fail('it was taken')
    }
    assert.equal(fixOf({ 'node-name': 'Gateway_East.' }), 'use gateway-east')
    assert.equal(fixOf({ 'node-address': '10.2.0.1/24' }), 'use 10.2.0.1')
    assert.match(fixOf({ 'node-name': 17 }) ?? '', /quotes/)
    assert.match(fixOf({ device: null }) ?? '', /remove the key/)
  })

  it('any host name becomes a node name, the same each time, that settings take', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (host) => {
        const name = nodeNameOf(host)
        assert.equal(nodeNameOf(host), name)
        const settings = resolveSettings({ flags: { 'node-name': name }, env: {}, file: undefined })
        assert.equal(settings['node-name'], name)
      })
    )
    assert.equal(nodeNameOf('Bücher_Regal.EXAMPLE.com.'), 'bucher-regal.example.com')
    assert.notEqual(nodeNameOf('東京'), nodeNameOf('大阪'))
  })

  it('that are taken give a record of this agent that the other members’ decoder takes', () => {
    const word = fc.oneof(
      { weight: 20, arbitrary: fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()) },
      fc.string({ maxLength: 20 }),
      fc.constantFrom('off', 'auto', 'none', '', '/', '[::1]', '0.0.0.0', '::', 'Gateway-East', 'gw_1')
    )
    // One wrong item refuses the whole: most are right.
    const port = fc.oneof(
      { weight: 30, arbitrary: fc.integer({ min: 1, max: 65_535 }).map(String) },
      { weight: 1, arbitrary: fc.constantFrom('', '0', '-1', '65536') }
    )
    const hostPort = fc
      .tuple(word, port)
      .map(([host, number]) => (number === '' || host.includes(':') ? host : `${host}:${number}`))
    const bracketed = fc.tuple(fc.ipV6(), port).map(([ip, number]) => `[${ip}]:${number}`)
    const multiaddr = fc
      .oneof(
        fc.tuple(fc.constantFrom('dns', 'dns4', 'dns6'), fc.domain(), port),
        fc.tuple(fc.constant('ip4'), fc.ipV4(), port),
        fc.tuple(fc.constant('ip6'), fc.ipV6(), port)
      )
      .map(([protocol, host, number]) => `/${protocol}/${host}/tcp/${number}`)
    const addresses = fc
      .array(fc.oneof(hostPort, bracketed, multiaddr), { maxLength: 5 })
      .map((items) => items.join(','))
    const flags = fc.record(
      {
        'node-name': word,
        'node-address': word,
        'wireguard-address': addresses,
        announce: addresses,
        listen: addresses,
        'wireguard-port': port,
        'probe-port': port
      },
      { requiredKeys: [] }
    )
    const ips = fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 40 })
    let taken = 0
    fc.assert(
      fc.property(flags, ips, (given, found) => {
        let settings: Settings
        try {
          settings = resolveSettings({ flags: given, env: {}, file: undefined })
        } catch (error) {
          assert.ok(error instanceof SettingsError && error.fix !== undefined, String(error))
          return
        }
        taken++
        const own = found.map((text) => parseIp(text)).filter((ip) => ip !== undefined)
        const facts = localFacts(
          settings,
          { podPrefixes: ['198.18.0.0/16' as Cidr], servicePrefixes: [] },
          {
            network: {
              addresses: own.map((ip, index) => ({ ip, device: `eth${index}` })),
              defaultSources: own.slice(3, 4),
              innerBridges: new Set()
            },
            listening: [],
            origin: ORIGIN,
            resolved: new Map(names(settings).map((name) => [name, own]))
          }
        )
        const value = agentValueOf(settings, facts, {
          tunnelKeys: [KEY],
          software: '1.2.3',
          nodePrefixes: undefined
        })
        assert.equal(decodeValue('agent', encodeValue(value)).kind, 'value')
      }),
      { numRuns: 2000 }
    )
    assert.ok(taken > 100, `only ${taken} were taken`)
  })

  const files: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ['an unknown key', 'devize: rhizome0\n', /unknown setting "devize"/],
    ['a key twice', 'device: a\ndevice: b\n', /is not YAML/],
    ['two documents', 'device: a\n---\ndevice: b\n', /is not YAML/],
    ['no YAML', 'device: [\n', /is not YAML/],
    ['a list', '- device\n', /expected a mapping of settings/]
  ]
  for (const [what, text, message] of files) {
    it(`refuse a file with ${what}`, () => {
      const file = fileOf(text)
      assert.throws(() => resolveSettings({ flags: {}, env: {}, file }), { code: 'BAD_SETTING', message })
    })
  }

  const misspelt: readonly (readonly [key: string, meant: string])[] = [
    ['devize', 'device'],
    ['dns_listen', 'dns-listen'],
    ['dnsListen', 'dns-listen'],
    ['wireguardport', 'wireguard-port'],
    ['webhook', 'webhook-listen']
  ]
  for (const [key, meant] of misspelt) {
    it(`name ${meant} where a file has ${key}`, () => {
      const file = fileOf(`${key}: x\n`)
      assert.throws(() => resolveSettings({ flags: {}, env: {}, file }), {
        fix: new RegExp(`did you mean ${meant}\\?`)
      })
    })
  }

  it('name the variable of the environment that was meant, and leave those of others alone', () => {
    const env = {
      RHIZOME_DNS_LISTN: 'off',
      RHIZOME_WIREGUARDPORT: '1',
      RHIZOME_CONFIG: '/x',
      RHIZOME_TOKEN: 'rzm2_x',
      RHIZOME_DEVICE: 'a',
      RHIZOME_DNS_SERVICE_HOST: '10.0.0.1',
      RHIZOME_DNS_PORT: 'udp://10.0.0.1:53',
      RHIZOME_DNS_PORT_53_UDP_ADDR: '10.0.0.1',
      PATH: '/bin'
    }
    assert.deepEqual(misspeltEnvironment(env), [
      { name: 'RHIZOME_DNS_LISTN', meant: 'RHIZOME_DNS_LISTEN' },
      { name: 'RHIZOME_WIREGUARDPORT', meant: 'RHIZOME_WIREGUARD_PORT' }
    ])
  })

  it('refuse a named file that is not there, and take an empty one', () => {
    assert.throws(() => resolveSettings({ flags: {}, env: {}, file: join(folder, 'none.yaml') }), {
      message: /none\.yaml cannot be read/
    })
    assert.equal(resolveSettings({ flags: {}, env: {}, file: fileOf('') }).device, 'rhizome0')
  })

  it('tells the fix of a file that cannot be used and of an MTU in between', () => {
    const fixOf = (sources: Partial<Parameters<typeof resolveSettings>[0]>) => {
      try {
        resolveSettings({ flags: {}, env: {}, file: undefined, ...sources })
      } catch (error) {
        return String((error as { readonly fix?: string }).fix)
      }
      return assert.fail('it was taken')
    }
    assert.match(fixOf({ file: join(folder, 'none.yaml') }), /--config/)
    assert.match(fixOf({ file: folder }), /--config/)
    for (const text of ['mtu:1400\n', '- mtu: 1400\n', 'mtu: 1400\nmtu: 1300\n', 'mtu: [\n'])
      assert.match(fixOf({ file: fileOf(text) }), /colon|mapping/, text)
    for (const mtu of ['1', '1279']) assert.match(fixOf({ flags: { mtu } }), /1280 to 9000/)
  })
})
