import assert from 'node:assert/strict'
import { resolveSettings } from '../../../src/app/settings/settings.ts'

const settings = (flags: Readonly<Record<string, string>>) => () =>
  resolveSettings({ flags, env: {}, file: undefined })

describe('two settings for one port', () => {
  it('are refused with the names of both, and no other process is blamed', () => {
    const clashes: readonly (readonly [flags: Readonly<Record<string, string>>, message: RegExp])[] = [
      [
        { listen: '/ip4/0.0.0.0/tcp/9465' },
        /^settings listen \(0\.0\.0\.0:9465\) and http-listen \(127\.0\.0\.1:9465\) ask for the same TCP port/
      ],
      [
        { listen: '/ip6/::/tcp/7000', 'http-listen': '[::1]:7000' },
        /listen .* and http-listen \(\[::1\]:7000\)/
      ],
      [{ 'http-listen': '0.0.0.0:948', 'feed-listen': '127.0.0.1:948' }, /http-listen .* and feed-listen/],
      [
        { 'http-listen': '10.0.0.1:443', 'webhook-listen': '10.0.0.1:443' },
        /http-listen .* and webhook-listen/
      ],
      [{ 'dns-listen': '127.0.0.1:9465' }, /http-listen .* and dns-listen/],
      [{ 'wireguard-port': '7947' }, /wireguard-port and probe-port are both 7947/]
    ]
    for (const [flags, message] of clashes)
      assert.throws(settings(flags), (error: Error & { code?: string; fix?: string }) => {
        assert.equal(error.code, 'BAD_SETTING')
        assert.match(error.message, message)
        assert.match(error.fix ?? '', /another port/)
        return true
      })
  })

  it('are no clash on other addresses, in other families, on any free port, or switched off', () => {
    for (const flags of [
      {},
      { listen: '/ip4/10.0.0.1/tcp/9465' },
      { listen: '/ip6/::/tcp/9465' },
      { listen: '/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0' },
      { listen: '/ip4/0.0.0.0/tcp/9465', 'http-listen': 'off' },
      { 'http-listen': '127.0.0.1:7947' }
    ])
      settings(flags)()
  })
})
