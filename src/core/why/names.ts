// The first stop: what the mesh's DNS answers for a name, and if it has no answer, why.
// Invariant: the answer is that of the responder itself (dns/names.ts). This file only explains it, so the two never differ
// on whether a name exists.
import { nearest } from '../model/nearest.ts'
import type { Ip } from '../model/values.ts'
import {
  CLUSTERSET_ZONE,
  clusterZone,
  KUBERNETES_DOMAIN,
  MERGED_ZONES,
  serviceDomain
} from '../model/zones.ts'
import type { ClusterView } from '../view/view.ts'
import { fault, note, passes, type Stop, type WhyFacts } from './stop.ts'

type Facts = Pick<WhyFacts, 'view' | 'names' | 'withdrawn'>

/** What a name leads to. `forward`: it is no name of the mesh, and the upstream servers have to answer it. */
interface Resolved {
  readonly stops: readonly Stop[]
  readonly addresses: readonly Ip[]
  readonly forward: boolean
}

/** Resolves a name as the responder does, for A and AAAA. `name`: lower case, without a final dot. */
export function explainName(name: string, facts: Facts): Resolved {
  const replies = (['A', 'AAAA'] as const).map((type) => facts.names.answer({ name, type }))
  const answers = replies.flatMap((reply) => (reply.kind === 'forward' ? [] : [reply]))
  if (answers.length === 0) return { stops: [outside(name, facts)], addresses: [], forward: true }
  const records = answers.flatMap((answer) => answer.answers)
  const addresses = records.flatMap((record) =>
    record.type === 'A' || record.type === 'AAAA' ? [record.data] : []
  )
  const target = answers.find(({ externalTarget }) => externalTarget !== undefined)?.externalTarget
  if (addresses.length > 0)
    return { stops: [passes('name', `${name} is ${listed(addresses)}`)], addresses, forward: false }
  if (target !== undefined)
    return {
      stops: [
        note('name', `${name} is another name for ${target}, which the upstream DNS servers have to answer`)
      ],
      addresses,
      forward: true
    }
  const isUnknown = answers.some(({ rcode }) => rcode === 'SERVFAIL')
  return { stops: [isUnknown ? notSynced(name, facts) : absent(name, facts)], addresses, forward: false }
}

/** A name that the mesh leaves to the upstream servers. A short name of a service is a fault: only a pod's search list completes it. */
function outside(name: string, { view }: Facts): Stop {
  const text = `${name} is no name of the mesh, so the upstream DNS servers answer it`
  const labels = name.split('.')
  const own = clusterZone(view.self)
  if (name.endsWith(`.${KUBERNETES_DOMAIN}`))
    return note(
      'name',
      `${text}: ${KUBERNETES_DOMAIN} is the cluster's own domain; in the mesh the name ends in ${own}`
    )
  // "web.shop" and "web.shop.svc" work in pods only, by the search list of their resolv.conf.
  const [service, namespace] = labels
  const isShort = labels.length === 2 || (labels.length === 3 && labels[2] === 'svc')
  const known =
    isShort && [...view.clusters.values()].find((one) => one.services.has(`${namespace}/${service}`))
  return known === undefined || known === false || service === undefined || namespace === undefined
    ? note('name', text)
    : fault(
        'name',
        `${name} is not the whole name of a service: only the DNS of a pod's own cluster completes it`,
        `ask for the whole name, as in ${serviceDomain(known.name, { name: service, namespace })}`
      )
}

/** SERVFAIL: a catalogue that may have the name is not complete here. */
function notSynced(name: string, { view, withdrawn }: Facts): Stop {
  const waiting = [...view.clusters.values()].filter(({ complete }) => !complete).map((one) => one.name)
  const dead = waiting.filter((cluster) => withdrawn.has(cluster))
  return fault(
    'name',
    `${name} is answered SERVFAIL: the services of ${waiting.length === 0 ? 'its cluster' : listed(waiting)} are not known here yet`,
    dead.length > 0
      ? `\`meshctl peers\` shows why there is no connection to ${listed(dead)}`
      : '`meshctl peers` shows how many operations are still missing (LAG)'
  )
}

/** NXDOMAIN, or a name without an address. */
function absent(name: string, facts: Facts): Stop {
  const labels = name.split('.')
  const zone = labels.slice(-2).join('.')
  const [service, namespace, kind] = labels.slice(-5, -2)
  const { view } = facts
  const names = [...view.clusters.keys()]
  const cluster = [...view.clusters.values()].find((one) => clusterZone(one.name) === zone)
  if (cluster === undefined && !MERGED_ZONES.includes(zone)) {
    const meant = nearest(labels.at(-1) ?? '', names)
    return fault(
      'name',
      `no cluster of this mesh is named ${labels.at(-1)}: the clusters are ${listed(names)}`,
      meant === undefined ? 'ask for a name of one of them' : `did you mean ${clusterZone(meant)}?`
    )
  }
  if (kind !== 'svc' || service === undefined || namespace === undefined)
    return fault(
      'name',
      `${name} is no name of a service or a pod`,
      `the name of a service is <service>.<namespace>.svc.${zone}`
    )
  const key = `${namespace}/${service}`
  if (zone === CLUSTERSET_ZONE) return notExported(key, facts)
  return cluster === undefined
    ? missingEverywhere(key, facts)
    : missingIn(cluster, key, { name, hasHost: labels.length > 5 }, facts)
}

/**
 * A name in the zone of one cluster. `key` is "<namespace>/<name>". `hasHost`: the name has a label before the service, as
 * endpoints of headless services have. The causes are looked for from the most certain to the least: a service without
 * endpoints, a refused record, a service of another cluster, a mistyped name.
 */
function missingIn(
  cluster: ClusterView,
  key: string,
  { name, hasHost }: { readonly name: string; readonly hasHost: boolean },
  { view }: Facts
): Stop {
  const [namespace = '', service = ''] = key.split('/')
  const found = cluster.services.get(key)?.service
  if (found !== undefined)
    return fault(
      'name',
      hasHost
        ? `service ${key} of cluster ${cluster.name} has no endpoint with this name`
        : found.headless
          ? `service ${key} of cluster ${cluster.name} is headless, and none of its endpoints is ready`
          : `${name} exists, but has no address`,
      `look at its endpoints in cluster ${cluster.name}: ${kubectl(key)}`
    )
  const refusal = cluster.refusals.find((one) => one.key === `svc/${key}`)
  if (refusal !== undefined)
    return fault(
      'name',
      `cluster ${cluster.name} announces service ${key}, but it is refused here: ${refusal.reason}`,
      `change it in cluster ${cluster.name}, or ask an administrator of the mesh for the right (\`meshctl trust log\`)`
    )
  const others = [...view.clusters.values()].filter((one) => one.services.has(key))
  if (others.length > 0)
    return fault(
      'name',
      `cluster ${cluster.name} exports no service ${key}, but ${listed(others.map((one) => one.name))} ${others.length === 1 ? 'does' : 'do'}`,
      `ask for ${serviceDomain(others[0]?.name ?? '', { name: service, namespace })}, or for cluster.all`
    )
  const meant = nearest(key, [...cluster.services.keys()])
  return fault(
    'name',
    `cluster ${cluster.name} exports no service ${key}`,
    meant === undefined
      ? `\`meshctl services --cluster ${cluster.name}\` lists what it exports`
      : `did you mean ${meant}? \`meshctl services --cluster ${cluster.name}\` lists what it exports`
  )
}

/**
 * The name is in a merged zone, and no cluster that is reached has the service: all that have it are down, or none of its
 * endpoints is ready, or no cluster has it.
 */
function missingEverywhere(key: string, { view, withdrawn }: Facts): Stop {
  const having = [...view.clusters.values()].filter((one) => one.services.has(key))
  const dead = having.filter(({ name }) => withdrawn.has(name)).map(({ name }) => name)
  if (dead.length > 0)
    return fault(
      'name',
      `only ${listed(dead)} ${dead.length === 1 ? 'has' : 'have'} service ${key}, and no tunnel leads there now, so the merged name leaves it out`,
      '`meshctl peers` shows why the tunnels are down'
    )
  if (having.length > 0)
    return fault(
      'name',
      `service ${key} of ${listed(having.map(({ name }) => name))} has no ready endpoint`,
      `look at its endpoints there: ${kubectl(key)}`
    )
  const meant = nearest(
    key,
    [...view.clusters.values()].flatMap((one) => [...one.services.keys()])
  )
  return fault(
    'name',
    `no cluster exports a service ${key}`,
    meant === undefined ? '`meshctl services` lists all services' : `did you mean ${meant}?`
  )
}

/** The name is in the zone of ServiceExports: no cluster exports the service, or it is headless and no endpoint is ready. */
function notExported(key: string, { view }: Facts): Stop {
  const having = [...view.clusters.values()].filter((one) => one.services.has(key))
  const exporting = having.filter((one) => one.services.get(key)?.service.clusterset !== undefined)
  if (exporting.length > 0)
    return fault(
      'name',
      `no endpoint of service ${key} that a tunnel leads to is ready; ${listed(exporting.map(({ name }) => name))} ${exporting.length === 1 ? 'exports' : 'export'} it`,
      `look at its endpoints there: ${kubectl(key)}; \`meshctl peers\` shows the tunnels`
    )
  const [namespace, service] = key.split('/')
  return fault(
    'name',
    having.length === 0
      ? `no cluster exports a service ${key}`
      : `service ${key} of ${listed(having.map(({ name }) => name))} has no ServiceExport`,
    `make a ServiceExport ${service} in the namespace ${namespace} of a cluster that has the Service; its conditions say what is missing`
  )
}

/** The command that shows the endpoints of a service in its own cluster. */
export function kubectl(key: string): string {
  const [namespace, service] = key.split('/')
  return `kubectl -n ${namespace} get endpointslices -l kubernetes.io/service-name=${service}`
}

/** At most five texts with commas, and how many more there are. */
export function listed(texts: readonly string[]): string {
  const shown = texts.slice(0, 5).join(', ')
  return texts.length > 5 ? `${shown} and ${texts.length - 5} more` : shown
}
