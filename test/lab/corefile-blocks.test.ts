// Whether CoreDNS would start: what our reader of Corefiles says against what the real CoreDNS does.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { readCorefile } from '../../src/core/coredns/corefile-blocks.ts'
import { labProgram } from './support/coredns.ts'

const OURS = (keys: string): string => `${keys} {\n    whoami\n}\n`
// The port that the test gives to CoreDNS in place of 53.
const PORT = 17_953

// Each is put behind our block for cluster.east, cluster.all and 2.10.in-addr.arpa.
const OTHERS: Readonly<Record<string, string>> = {
  'another zone': OURS('example.org'),
  'the same zone': OURS('cluster.east'),
  'with a dot': OURS('cluster.east.'),
  'in capitals': OURS('Cluster.EAST'),
  'with its transport': OURS('dns://cluster.east'),
  'with its port': OURS(`cluster.east:${PORT}`),
  'on another port': OURS('cluster.east:17954'),
  'over another transport': OURS('tls://cluster.east:17955'),
  'in a list with commas': OURS('example.org, cluster.east'),
  'in a list over lines': OURS('example.org,\n  cluster.all'),
  'in a list without commas': OURS('example.org cluster.all'),
  'as a prefix': OURS('10.2.0.0/16'),
  'as a prefix with bits of the host': OURS('10.2.3.4/16'),
  'as a wider prefix': OURS('10.0.0.0/8'),
  'as a longer prefix': OURS('10.2.8.0/21'),
  'as two of itself': OURS('example.org') + OURS('EXAMPLE.org.'),
  'in quotes': OURS('"cluster.east"'),
  'in a comment': `# cluster.east {\n${OURS('example.org')}`,
  'behind a comment in the line': OURS('example.org # cluster.east'),
  'as a snippet': '(cluster.east) {\n    whoami\n}\nexample.org {\n    import cluster.east\n}\n',
  'with nested braces':
    'example.org {\n    template IN A {\n        rcode NXDOMAIN\n    }\n}\n' + OURS('cluster.all'),
  'not closed': 'example.org {\n    whoami\n',
  'closed twice': `${OURS('example.org')}}\n`,
  'carriage returns': OURS('cluster.east').replaceAll('\n', '\r\n'),
  tabs: '\tcluster.east\t{\n\twhoami\n\t}\n',
  'a plugin that no build has': 'example.org {\n    nosuchplugin\n}\n',
  'a plugin of another build': 'example.org {\n    kubernetai\n}\n',
  'an import of a file that is not there': 'example.org {\n    import nosuch\n}\n',
  'an import of a file at the top': `import nosuch.conf\n${OURS('example.org')}`,
  'an import of no file by a pattern': `import none/*.server\n${OURS('example.org')}`,
  'an import of no file by a pattern inside': 'example.org {\n    import none/*.override\n    whoami\n}\n',
  'an import of a pattern with two wildcards': 'example.org {\n    import */*.conf\n    whoami\n}\n',
  'an import with two arguments': '(a) {\n    whoami\n}\nexample.org {\n    import a b\n}\n',
  'an import without an argument': 'example.org {\n    import\n    whoami\n}\n',
  'a snippet that is used before it is defined':
    'example.org {\n    import late\n}\n(late) {\n    whoami\n}\n',
  'a snippet defined twice': `(a) {\n    whoami\n}\n(a) {\n    log\n}\n${OURS('example.org')}`,
  'a snippet with keys': '(zones) {\n    example.org\n}\nimport zones\n',
  'a snippet with a block': `(block) {\n    cluster.all {\n        whoami\n    }\n}\nimport block\n`,
  'a snippet that imports itself': '(a) {\n    import a\n}\nexample.org {\n    import a\n}\n',
  'a snippet that is not closed': '(a) {\n    whoami\n',
  'a comma after the last zone': 'example.org, {\n    whoami\n}\n',
  'a comma alone': 'example.org , example.net {\n    whoami\n}\n',
  'a comma at the end of the file': 'example.org,',
  'a backslash at the end of a line': 'example.org \\\n  example.net {\n    whoami\n}\n',
  'an escaped dot': OURS('cluster\\.east'),
  'digits for a letter': OURS('clust\\101r.east'),
  'a label of 63 characters': OURS(`${'a'.repeat(63)}.org`),
  'a label of 64 characters': OURS(`${'a'.repeat(64)}.org`),
  'a name of 256 characters': OURS(`${'a.'.repeat(127)}aa`),
  'an empty label': OURS('example..org'),
  'a leading dot': OURS('.example.org'),
  'port 65535': OURS('example.org:65535'),
  'port 70000': OURS('example.org:70000'),
  'a negative port': OURS('example.org:-1'),
  'a port with a sign': OURS(`cluster.east:+${PORT}`),
  'a port with zeros': OURS(`cluster.east:0${PORT}`),
  'a colon at the end': OURS('example.org:'),
  'an unknown scheme': OURS('foo://example.org'),
  'a scheme in capitals': OURS('DNS://cluster.east'),
  'a socket': OURS('unix://example.org'),
  'a byte order mark before a block behind others': `\ufeff${OURS('example.org')}`,
  'a prefix of the whole': OURS('0.0.0.0/0'),
  'a prefix of IPv6': OURS('fd00:102::/32') + OURS('2.0.1.0.0.0.d.f.ip6.arpa'),
  'a prefix of IPv6 with bits of the host': OURS('fd00:102::1/32') + OURS('2.0.1.0.0.0.d.f.ip6.arpa'),
  'a prefix of IPv6 that begins with a colon': OURS('::/8'),
  'a prefix that is too long': OURS('10.2.0.0/33'),
  'a prefix with leading zeros': OURS('10.02.0.0/16'),
  'a block without a zone': '{\n    whoami\n}\n',
  'a file of one zone': 'example.org',
  'a zone without braces': 'example.org\nwhoami\n',
  'a comment inside a word': 'exa#mple cluster.east\n {\n    whoami\n}\n',
  'white space of Unicode': `example.org\u00a0cluster.all {\n    whoami\n}\n`,
  'a next line of Latin-1': `example.org\u0085cluster.all {\n    whoami\n}\n`,
  'a carriage return inside a word': OURS('cluster.\reast'),
  'an escaped quotation mark': OURS('"a\\"b"'),
  'a quotation that is not closed': OURS('"example.org'),
  'an empty quotation': OURS('"" example.org'),
  'braces on a line of their own': 'example.org\n{\n    whoami\n}\n',
  'a closing brace of a plugin too many':
    'example.org {\n    template IN A {\n        rcode NXDOMAIN\n    }\n    }\n}\n',
  'the same zone in a view': 'cluster.east {\n    view v {\n        expr true\n    }\n    whoami\n}\n',
  'the same zone twice with bind':
    'example.org {\n    bind 127.0.0.1\n    whoami\n}\nexample.org {\n    bind 127.0.0.2\n    whoami\n}\n',
  'the same zone with bind': 'cluster.east {\n    bind 127.0.0.1\n    whoami\n}\n',
  'a variable as a zone': OURS('{$RHIZOME_ZONE}'),
  'a variable of Windows as a zone': OURS('{%RHIZOME_ZONE%}'),
  'a variable as a plugin': 'example.org {\n    {$RHIZOME_PLUGIN}\n}\n',
  'a variable as an argument': 'example.org {\n    chaos {$RHIZOME_ZONE}x\n}\n',
  'braces of no variable': OURS('{$}')
}

// Files that load in one environment and not in another one: the reader has to say so.
const UNCLEAR: ReadonlySet<string> = new Set([
  'a plugin that no build has',
  'an import of a file that is not there',
  'an import of a file at the top',
  'a snippet that is used before it is defined',
  'a variable as a zone',
  'a variable of Windows as a zone',
  'a variable as a plugin',
  // "example.net" is the name of a plugin there.
  'a backslash at the end of a line'
])
// Plugins that other builds of CoreDNS have: here it does not start, there it does.
const BUILT_ELSEWHERE: ReadonlySet<string> = new Set(['a plugin of another build'])

describe('Corefile blocks beside the real CoreDNS', function () {
  this.timeout(60 * 60_000)
  let program = ''
  let folder = ''

  before(async () => {
    program = await labProgram('coredns')
    folder = await mkdtemp(join(tmpdir(), 'rhizome-corefile-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  for (const [name, other] of Object.entries(OTHERS)) {
    it(`agrees whether it starts: ${name}`, async () => {
      const text = OURS('cluster.east cluster.all 2.10.in-addr.arpa') + other
      const { starts, said } = await tryCoredns(text)
      const read = readCorefile(text, PORT)
      const why = `${read.kind === 'served' ? 'served' : read.reason}; CoreDNS: ${said}`
      if (UNCLEAR.has(name)) assert.equal(read.kind, 'unclear', why)
      else if (!BUILT_ELSEWHERE.has(name)) assert.equal(read.kind, starts ? 'served' : 'invalid', why)
    })
  }

  it('agrees with CoreDNS on files that are made at random, or says that they are unclear', async () => {
    const word = fc.constantFrom(
      'example.org',
      'cluster.east',
      'cluster.all,',
      '10.2.0.0/16',
      'import',
      'a',
      '(a)',
      '{',
      '}',
      '{',
      '}',
      '\n',
      '\n',
      '\n',
      'whoami',
      'log',
      '"x y"',
      '# c',
      '#',
      'example.net:17954',
      'tls://a.b',
      '\\',
      ',',
      '""',
      'view',
      'bind',
      '127.0.0.1'
    )
    const file = fc.oneof(
      fc.array(word, { maxLength: 14 }).map((words) => words.join(' ')),
      fc
        .array(fc.tuple(fc.array(word, { maxLength: 3 }), fc.array(word, { maxLength: 4 })), { maxLength: 3 })
        .map((blocks) =>
          blocks.map(([keys, inside]) => `${keys.join(' ')} {\n${inside.join(' ')}\n}\n`).join('')
        )
    )
    const runs = Number(process.env['COREFILES'] ?? 60)
    for (const text of fc.sample(file, runs)) {
      const read = readCorefile(text, PORT)
      // These plugins need arguments, and a certificate.
      if (read.kind === 'unclear' || /view|bind|tls/.test(text)) continue
      const { starts, said } = await tryCoredns(text)
      // The arguments of plugins are not judged.
      if (/^plugin\//m.test(said)) continue
      const why = `${JSON.stringify(text)}: ${read.kind === 'served' ? 'served' : read.reason}; CoreDNS: ${said}`
      assert.equal(read.kind, starts ? 'served' : 'invalid', why)
    }
  })

  async function tryCoredns(text: string): Promise<{ starts: boolean; said: string }> {
    const file = join(folder, 'Corefile')
    await writeFile(file, text)
    const child = spawn(program, ['-conf', file, '-dns.port', String(PORT)], {
      stdio: ['ignore', 'pipe', 'pipe']
    })
    let said = ''
    const started = new Promise<boolean>((resolve) => {
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => {
          said += chunk.toString()
          if (said.includes('CoreDNS-')) resolve(true) // the banner comes once every block is loaded
        })
      child.once('exit', () => resolve(false))
    })
    const starts = await started
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    return { starts, said }
  }
})
