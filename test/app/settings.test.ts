import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { envOf, resolveSettings, SETTINGS } from '../../src/app/settings.ts'

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
    assert.deepEqual(settings['dns-listen'], ['10.1.0.1:53', '[::1]:53'])
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
    ['node-name', '']
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
          message: new RegExp(`setting ${key} \\(${origin}.* It is: `)
        })
      }
    })
  }

  const files: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ['an unknown key', 'devize: rhizome0\n', /unknown setting "devize"/],
    ['no YAML', 'device: [\n', /is not YAML/],
    ['a list', '- device\n', /expected a mapping of settings/]
  ]
  for (const [what, text, message] of files) {
    it(`refuse a file with ${what}`, () => {
      const file = fileOf(text)
      assert.throws(() => resolveSettings({ flags: {}, env: {}, file }), { code: 'BAD_SETTING', message })
    })
  }

  it('refuse a named file that is not there, and take an empty one', () => {
    assert.throws(() => resolveSettings({ flags: {}, env: {}, file: join(folder, 'none.yaml') }), {
      message: /none\.yaml cannot be read/
    })
    assert.equal(resolveSettings({ flags: {}, env: {}, file: fileOf('') }).device, 'rhizome0')
  })
})
