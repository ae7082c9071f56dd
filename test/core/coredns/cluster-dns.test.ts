// The mesh's zones in the cluster's own DNS: nothing else is touched, and undoing leaves no trace.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  chooseTarget,
  unwire,
  unwireCorefile,
  unwireServers,
  wire,
  wireCorefile,
  wireServers,
  zonesToForward,
  type ClusterDnsObjects,
  type MeshZones,
  type Wiring
} from '../../../src/core/coredns/cluster-dns.ts'

const MESH: MeshZones = {
  zones: ['cluster.east', 'cluster.all', '102.10.in-addr.arpa'],
  servers: ['10.96.0.53']
}

// As kubeadm writes it.
const COREFILE = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`

describe('cluster DNS: the Corefile', () => {
  it('gets one marked block, on the port that CoreDNS has', () => {
    assert.equal(
      textOf(wireCorefile(COREFILE.replace(':53', ':1053'), MESH)),
      `# BEGIN rhizome: written by its agents, removed on uninstall
cluster.east:1053 cluster.all:1053 102.10.in-addr.arpa:1053 {
    errors
    cache 5
    forward . 10.96.0.53 {
        max_fails 0
    }
}
# END rhizome
${COREFILE.replace(':53', ':1053')}`
    )
    const keys = [
      'dns://.:1053',
      '".:1053"',
      '.:01053',
      'example.org:1053, .:1053',
      'example.org\n.:1053'.replace('\n', ',\n  '),
      'example.org:53 .:1053',
      'tls://.:853 .:1053',
      '. .:1053',
      '# .:53 is mapped to\n.:1053'
    ]
    for (const key of keys) {
      const edit = wireCorefile(COREFILE.replace('.:53', key), MESH)
      const port = key === '. .:1053' ? 53 : 1053
      assert.match(textOf(edit), new RegExp(`^cluster\\.east:${port} cluster\\.all:${port} `, 'm'), key)
    }
  })

  const files = fc
    .array(
      fc.oneof(
        fc.string(),
        fc.constantFrom('.:53 {', '}', '    errors', '# BEGIN', '#BEGIN rhizome', '# ENDrhizome', COREFILE)
      ),
      { minLength: 1 }
    )
    .chain((lines) => fc.constantFrom('\n', '\r\n').map((end) => lines.join(end)))
    .filter((text) => !/^# (BEGIN|END) rhizome\b/m.test(text) && /\{[ \t]*\r?$/m.test(text))
  const meshes = fc.record({
    zones: fc
      .uniqueArray(fc.stringMatching(/^cluster\.[a-z]{1,8}$/), { minLength: 1 })
      .filter((zones) => !zones.includes('cluster.local')),
    servers: fc.array(fc.ipV4(), { minLength: 1 })
  })

  it('is byte for byte as before once undone, whatever was in it', () => {
    fc.assert(
      fc.property(files, meshes, (text, mesh) =>
        assert.equal(textOf(unwireCorefile(textOf(wireCorefile(text, mesh)))), text)
      )
    )
  })

  it('is written once however often, and replaced when the mesh changes', () => {
    fc.assert(
      fc.property(files, meshes, meshes, (text, one, two) => {
        const once = textOf(wireCorefile(text, one))
        assert.equal(textOf(wireCorefile(once, one)), once)
        assert.equal(textOf(wireCorefile(once, two)), textOf(wireCorefile(text, two)))
      })
    )
  })

  it('loses our block also where somebody moved it and wrote around it', () => {
    const [begin = '', end = ''] = textOf(wireCorefile(COREFILE, MESH)).split(COREFILE)
    assert.equal(
      textOf(unwireCorefile(`# mine\n${COREFILE}${begin}${end}# more`)),
      `# mine\n${COREFILE}# more`
    )
  })

  it('is left alone when half of our block is gone, or it has no braces', () => {
    const damaged = textOf(wireCorefile(COREFILE, MESH)).replace('# END rhizome\n', '')
    for (const edit of [
      unwireCorefile(damaged),
      wireCorefile(damaged, MESH),
      wireCorefile('.:53\nwhoami\n', MESH)
    ]) {
      assert.equal(edit.kind, 'refused')
    }
  })

  for (const zone of [
    'cluster.local',
    'svc.cluster.local',
    'local',
    '.',
    'cluster.east {',
    'cluster.east\n.',
    'Cluster.East',
    ''
  ]) {
    it(`takes no zone ${JSON.stringify(zone)}`, () => {
      assert.throws(
        () => wire('coredns', OBJECTS, { mesh: { ...MESH, zones: [zone] }, namespace: 'kube-system' }),
        RangeError
      )
    })
  }
  for (const server of ['10.96.0.53 {', '/etc/resolv.conf', 'dns.example', '1.1.1.1\n}', '']) {
    it(`takes no server ${JSON.stringify(server)}`, () => {
      assert.throws(
        () => wire('coredns', OBJECTS, { mesh: { ...MESH, servers: [server] }, namespace: 'kube-system' }),
        RangeError
      )
    })
  }
})

describe('cluster DNS: a zone that somebody else serves already', () => {
  const block = (keys: string): string => `${keys} {\n    forward . 10.9.9.9\n}\n`
  const spellings = [
    'cluster.east',
    'cluster.east.',
    'Cluster.East:53',
    'dns://cluster.east',
    'example.org, cluster.east',
    'example.org,\n  cluster.all',
    '10.102.0.0/16',
    '10.102.3.4/16'
  ]
  for (const keys of spellings) {
    it(`is found as ${JSON.stringify(keys)} in the Corefile and in coredns-custom, and nothing is written`, () => {
      const inCorefile = { ...NOTHING, coredns: { data: { Corefile: COREFILE + block(keys) } } }
      const inCustom = {
        ...NOTHING,
        coredns: { data: { Corefile: `${COREFILE}import custom/*.server\n` } },
        custom: { data: { 'mine.server': block(keys), 'notes.txt': '{' } }
      }
      for (const [target, objects, place] of [
        ['coredns', inCorefile, /ConfigMap kube-system\/coredns, line \d+;/],
        ['coredns-custom', inCustom, /key mine\.server of ConfigMap kube-system\/coredns-custom/]
      ] as const) {
        const wiring = wire(target, objects, { mesh: MESH, namespace: 'kube-system' })
        assert.ok(wiring.kind === 'refused')
        assert.deepEqual(wiring.calls, [])
        assert.match(wiring.reason, place)
        assert.match(wiring.fix, /cluster-dns: off/)
      }
    })
  }

  it('is no matter on another port or over another transport', () => {
    const others = block('cluster.east:1053') + block('tls://cluster.east')
    const objects = { ...NOTHING, coredns: { data: { Corefile: COREFILE + others } } }
    assert.equal(callsOf(wire('coredns', objects, { mesh: MESH, namespace: 'kube-system' })).length, 1)
  })

  it('makes our own block go, so that CoreDNS starts again', () => {
    const wired = textOf(wireCorefile(COREFILE, MESH))
    const objects = { ...NOTHING, coredns: { data: { Corefile: wired + block('cluster.all') } } }
    const wiring = wire('coredns', objects, { mesh: MESH, namespace: 'kube-system' })
    assert.ok(wiring.kind === 'refused')
    assert.deepEqual(
      wiring.calls?.map(({ body }) => body),
      [{ data: { Corefile: COREFILE + block('cluster.all') } }]
    )
  })

  it('is found among the servers of the DNS operator', () => {
    const operator = { spec: { servers: [{ name: 'mine', zones: ['corp.example', 'Cluster.All.'] }] } }
    const wiring = wire('openshift', { ...NOTHING, operator }, { mesh: MESH, namespace: 'x' })
    assert.ok(wiring.kind === 'refused')
    assert.match(wiring.reason, /cluster\.all already has a server block in spec\.servers "mine"/)
  })

  it('and a Corefile that CoreDNS could not load is not made longer', () => {
    for (const broken of [
      `${COREFILE}example.org {\n`,
      COREFILE + block('a.example') + block('A.example.')
    ]) {
      const objects = { ...NOTHING, coredns: { data: { Corefile: broken } } }
      const wiring = wire('coredns', objects, { mesh: MESH, namespace: 'x' })
      assert.ok(wiring.kind === 'refused', broken)
      assert.match(wiring.reason, /CoreDNS cannot load the Corefile/)
    }
  })

  it('and where a Corefile may serve any zone, nothing is written, and the fix is told', () => {
    for (const [unclear, reason] of [
      [block('{$ZONE}'), /the variable \{\$ZONE\}/],
      [block('{%ZONE%}'), /the variable \{%ZONE%\}/],
      [`import zones.conf\n${COREFILE}`, /it imports zones\.conf/],
      [`import /etc/coredns/zones/*\n${COREFILE}`, /cannot read which zones these files serve/],
      ['example.org {\n    ourplugin\n}\n', /"ourplugin" is no plugin of CoreDNS/]
    ] as const) {
      const objects = { ...NOTHING, coredns: { data: { Corefile: unclear } } }
      const wiring = wire('coredns', objects, { mesh: MESH, namespace: 'x' })
      assert.ok(wiring.kind === 'refused', unclear)
      assert.match(wiring.reason, reason)
      assert.match(wiring.fix, /cluster-dns: off/)
      assert.deepEqual(wiring.calls ?? [], [])
    }
    const usual = `${COREFILE}import custom/*.server\nexample.org {\n    import custom/*.override\n    forward . {$UPSTREAM}\n}\n`
    const objects = { ...NOTHING, coredns: { data: { Corefile: usual } } }
    assert.equal(wire('coredns', objects, { mesh: MESH, namespace: 'x' }).kind, 'calls')
  })
})

describe('cluster DNS: zones to forward', () => {
  it('are those of every cluster, the own one included, but never the one that the cluster serves by itself', () => {
    const zones = ['cluster.west.', 'cluster.east', 'cluster.all.']
    assert.deepEqual(zonesToForward(zones, 'cluster.local'), ['cluster.west', 'cluster.east', 'cluster.all'])
    assert.deepEqual(zonesToForward(zones, 'Cluster.West.'), ['cluster.east', 'cluster.all'])
    assert.deepEqual(zonesToForward(zones, 'lab.cluster.west'), ['cluster.east', 'cluster.all'])
  })
})

describe('cluster DNS: the DNS operator', () => {
  const servers = fc.array(
    fc.record({ name: fc.string().filter((name) => name !== 'rhizome'), zones: fc.array(fc.string()) })
  )

  it('keeps the other servers in their order, and is as before once undone', () => {
    fc.assert(
      fc.property(servers, (before) => {
        const wired = wireServers(before, MESH)
        assert.deepEqual(wired.slice(0, -1), before)
        assert.deepEqual(wireServers(wired, MESH), wired)
        assert.deepEqual(unwireServers(wired), before)
      })
    )
  })

  it('is sent no patch when only the order of keys differs', () => {
    const [ours] = wireServers([], MESH) as [Record<string, unknown>]
    const reordered = Object.fromEntries(Object.entries(ours).toReversed())
    const objects = { ...NOTHING, operator: { spec: { servers: [reordered] } } }
    assert.deepEqual(callsOf(wire('openshift', objects, { mesh: MESH, namespace: 'x' })), [])
  })
})

describe('cluster DNS: patches', () => {
  it('say our field only, and the version they were made for where it is shared', () => {
    const options = { mesh: MESH, namespace: 'kube-system' }
    const [coredns] = callsOf(wire('coredns', OBJECTS, options))
    assert.deepEqual(Object.keys(coredns?.body as object).sort(), ['data', 'metadata'])
    assert.deepEqual((coredns?.body as { metadata: object } | undefined)?.metadata, { resourceVersion: '7' })
    const [custom] = callsOf(wire('coredns-custom', OBJECTS, options))
    assert.deepEqual(Object.keys((custom?.body as { data: object } | undefined)?.data ?? {}), [
      'rhizome.server'
    ])
    const [openshift] = callsOf(wire('openshift', OBJECTS, options))
    assert.deepEqual(Object.keys((openshift?.body as { spec: object } | undefined)?.spec ?? {}), ['servers'])
  })

  it('undo all three at once, and none where nothing is ours', () => {
    assert.deepEqual(callsOf(unwire(OBJECTS, 'kube-system')), [])
    const corefile = textOf(wireCorefile(COREFILE, MESH))
    const wired: ClusterDnsObjects = {
      operator: { spec: { servers: wireServers([], MESH) } },
      coredns: { data: { Corefile: corefile } },
      custom: { data: { 'rhizome.server': 'x', 'mine.server': 'y' } }
    }
    const bodies = callsOf(unwire(wired, 'kube-system')).map(({ body }) => body)
    assert.deepEqual(bodies, [
      { spec: { servers: null } },
      { data: { Corefile: COREFILE } },
      { data: { 'rhizome.server': null } }
    ])
  })

  it('without zones undo', () => {
    const wired = { ...NOTHING, custom: { data: { 'rhizome.server': 'x' } } }
    const [call] = callsOf(
      wire('coredns-custom', wired, { mesh: { zones: [], servers: [] }, namespace: 'kube-system' })
    )
    assert.deepEqual(call?.body, { data: { 'rhizome.server': null } })
  })

  it('go where the cluster wants them', () => {
    const importing = {
      data: { Corefile: `${COREFILE.replace('errors', 'import custom/*.override')}import custom/*.server\n` }
    }
    assert.equal(chooseTarget(NOTHING), undefined)
    assert.equal(chooseTarget(OBJECTS), 'openshift')
    assert.equal(chooseTarget({ ...OBJECTS, operator: undefined }), 'coredns')
    assert.equal(chooseTarget({ ...NOTHING, coredns: importing }), 'coredns', 'nothing to write to')
    assert.equal(chooseTarget({ ...NOTHING, coredns: importing, custom: {} }), 'coredns-custom')
    assert.equal(wire('openshift', NOTHING, { mesh: MESH, namespace: 'x' }).kind, 'refused')
    assert.equal(wire('coredns', NOTHING, { mesh: MESH, namespace: 'x' }).kind, 'refused')
    assert.equal(wire('coredns-custom', NOTHING, { mesh: MESH, namespace: 'x' }).kind, 'refused')
  })
})

const NOTHING: ClusterDnsObjects = { operator: undefined, coredns: undefined, custom: undefined }
const OBJECTS: ClusterDnsObjects = {
  operator: { metadata: { resourceVersion: '5' }, spec: { logLevel: 'Normal' } },
  coredns: { metadata: { resourceVersion: '7' }, data: { Corefile: COREFILE } },
  custom: { metadata: { resourceVersion: '9' } }
}

function textOf(edit: ReturnType<typeof wireCorefile>): string {
  assert.ok(edit.kind === 'text', edit.kind === 'refused' ? edit.reason : '')
  return edit.text
}

function callsOf(wiring: Wiring) {
  assert.ok(wiring.kind === 'calls')
  return wiring.calls
}
