// `make lab`: two real Kubernetes clusters of two nodes each, joined into one mesh, for a person to look at. Stays up until Ctrl-C, which
// leaves the machine as it was.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Lab } from '../netns.ts'
import { nodesImpossible } from './programs.ts'
import { NAMES, serviceAddress, World, type ClusterName } from './world.ts'

const began = performance.now()
const say = (what: string): void => {
  console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${what}`)
}

// At any moment: the lab ends with this process (its `exit` listener), and one line is said.
for (const [signal, code] of [
  ['SIGINT', 0],
  ['SIGTERM', 143],
  ['SIGHUP', 129]
] as const)
  process.once(signal, () => {
    process.once('exit', () => console.log('Gone.'))
    process.exit(code)
  })

const reason = Lab.requirements() ?? nodesImpossible()
if (reason !== undefined) {
  console.error(`The lab cannot run here: ${reason}`)
  process.exit(1)
}
const world = await World.raise('lab', say)
say('installing the chart in both clusters, and joining them')
await world.join()
say('west and east are one network')
console.log(help(world))
// Until a signal.
setInterval(() => undefined, 2 ** 30)

/** What to type. Each cluster has a program of its own, since its API server is reached from its nodes only. */
function help({ folder, clusters }: World): string {
  for (const name of NAMES) {
    const { kubectl, helm } = clusters[name].tools
    const [first] = clusters[name].nodes
    const inside = `ip netns exec ${first?.namespace.name}`
    const enter = clusters[name].nodes.map(
      (node) => `  ${node.name}) shift; exec nsenter -t ${node.pid()} -a "$@" ;;`
    )
    const script = `#!/bin/sh
# The cluster ${name}: kubectl, helm, meshctl in its gateway, or a command on one of its nodes.
export KUBECONFIG=${clusters[name].kubeconfig}
program=\${1:-}
case $program in
  kubectl) shift; exec ${inside} ${kubectl} "$@" ;;
  helm) shift; exec ${inside} ${helm} "$@" ;;
  meshctl) exec ${inside} ${kubectl} -n rhizome-system exec ds/rhizome -- "$@" ;;
${enter.join('\n')}
  *) echo "usage: $0 kubectl|helm|meshctl|${clusters[name].nodes.map((node) => node.name).join('|')} ARGUMENTS" >&2; exit 2 ;;
esac
`
    writeFileSync(join(folder, `in-${name}`), script, { mode: 0o755 })
  }
  const at = (name: ClusterName): string => join(folder, `in-${name}`)
  return `
In another terminal, as root:
  ${at('west')} kubectl get pods -A -o wide
  ${at('west')} meshctl peers
  ${at('west')} meshctl why web.shop.svc.cluster.east:80
  ${at('west')} kubectl -n shop exec on-west-2 -- node -e "require('net').connect(80, 'web.shop.svc.cluster.east').pipe(process.stdout)"
  ${at('east')} meshctl services            the service web of east is ${serviceAddress('east')}
  ${at('east')} east-2 ip route show table all proto 142
Ctrl-C here ends both clusters.`
}
