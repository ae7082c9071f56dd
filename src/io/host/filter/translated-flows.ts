// Ends flows whose addresses the kernel translates otherwise than the filter says. Connection tracking repeats the translation
// of the first packet for the rest of a flow, also after the prefixes have changed (`meshctl grant`) and after another program
// removed the table for a moment: a UDP sender that keeps its port, as the probe does, would send addresses into the tunnel for
// ever that the other side drops. A flow that is ended here goes on with its next packet, translated anew.
// Invariants
//   1. Pairs of prefixes are in doubt from their change until all flows have been read and cleaned with success. After a start all
//      are in doubt: the agent may have been killed between the two.
//   2. A flow that the kernel translates as the filter says is never ended.
import { cidrContains, familyOf } from '../../../core/model/cidr.ts'
import type { Filter, TranslatedPrefix } from '../../../core/host/host-state.ts'
import { createTranslation, type Translation } from '../../../core/model/translation.ts'
import type { Cidr } from '../../../core/model/values.ts'
import { HostError } from '../errors.ts'
import { parseFlow, type Flow } from '../load-balancer/flow-ends.ts'
import type { Run } from '../ports.ts'

/** The part of a filter that says how flows are translated. */
type Translated = Pick<Filter, 'translatedPods' | 'remoteSources'>

/** Keeps what is in doubt. One for each filter. */
interface TranslatedFlows {
  /** Takes the filter that the kernel has, as it was read. */
  known(filter: Translated | undefined): void
  /** Takes the filter that was set just now, and ends the flows that it translates otherwise. Never rejects. */
  changed(filter: Translated | undefined, signal: AbortSignal): Promise<void>
  /** Ends what an earlier call could not. Never rejects. */
  retry(signal: AbortSignal): Promise<void>
}

// Each deletion starts a process. The next `retry` ends the rest.
const DELETIONS_MAX = 200

/** Returns the flows of a host. Without the tool conntrack none is ended. */
export function createTranslatedFlows(run: Run): TranslatedFlows {
  let now: Translated = NOTHING
  let isStart = true
  /** Pairs whose flows must be read (1). */
  let doubts = new Set<TranslatedPrefix>()

  async function end(signal: AbortSignal): Promise<void> {
    if (doubts.size === 0) return
    const asked = doubts
    doubts = new Set()
    try {
      if (!(await endStrays(run, { asked, now, signal }))) doubts = doubts.union(asked)
    } catch (error) {
      if (!(error instanceof HostError && error.code === 'TOOL_MISSING')) doubts = doubts.union(asked)
    }
  }

  return {
    known(filter) {
      now = filter ?? NOTHING
      if (isStart) doubts = pairsOf(now)
      isStart = false
    },
    async changed(filter, signal) {
      const [before, after] = [pairsOf(now), pairsOf(filter ?? NOTHING)]
      // Flows to clusters that the filter does not name any more are those of another cluster, or of none.
      if (filter !== undefined) now = filter
      doubts = doubts.union(before.symmetricDifference(after))
      await end(signal)
    },
    retry: end
  }
}

const NOTHING: Translated = { remoteSources: [] }

function pairsOf({ translatedPods = [] }: Translated): Set<TranslatedPrefix> {
  return new Set(translatedPods)
}

/** Ends the flows of these pairs that are translated otherwise. Returns false if it left some. Errors: HostError. */
async function endStrays(
  run: Run,
  options: {
    readonly asked: ReadonlySet<TranslatedPrefix>
    readonly now: Translated
    readonly signal: AbortSignal
  }
): Promise<boolean> {
  const { asked, now, signal } = options
  const translation = translationOf(now)
  const present = pairsOf(now)
  const strays = new Map<string, readonly string[]>()
  for (const pair of asked) {
    const [real, virtual] = pair.split(' ') as [Cidr, Cidr]
    const family = familyOf(real) === 4 ? 'ipv4' : 'ipv6'
    // Exit code 1: there is no such flow.
    const call = { signal, okCodes: [1] }
    // From the tunnel: a virtual prefix that this cluster has no more names none of its pods.
    if (!present.has(pair)) await run('conntrack', ['-D', '-f', family, '--orig-dst', virtual], call)
    const { stdout } = await run('conntrack', ['-L', '-f', family, '--orig-src', real], call)
    for (const line of stdout.split('\n')) {
      const flow = parseFlow(line)
      if (flow === undefined || !isMistranslated(flow, now.remoteSources, translation)) continue
      const args = deletionOf(flow, family)
      strays.set(args.join(' '), args)
    }
  }
  for (const args of [...strays.values()].slice(0, DELETIONS_MAX))
    await run('conntrack', args, { signal, okCodes: [1] })
  return strays.size <= DELETIONS_MAX
}

function translationOf({ translatedPods = [] }: Translated): Translation {
  return createTranslation(
    translatedPods.map((text) => {
      const [real, virtual] = text.split(' ') as [Cidr, Cidr]
      return { kind: 'pod', real, virtual }
    })
  )
}

/** Whether a flow of this cluster goes into the tunnel with another source than the filter gives it. */
function isMistranslated(
  { source, ip, replyTo }: Pick<Flow, 'source' | 'ip' | 'replyTo'>,
  remote: readonly Cidr[],
  { toVirtual }: Pick<Translation, 'toVirtual'>
): boolean {
  return remote.some((cidr) => cidrContains(cidr, ip)) && replyTo !== toVirtual.ip(source)
}

/** The arguments that end all flows from one address to one port with the same translation. */
function deletionOf({ protocol, source, vip, port, replyTo }: Flow, family: string): readonly string[] {
  return [
    '-D',
    '-f',
    family,
    '-p',
    protocol.toLowerCase(),
    '--orig-src',
    source,
    '--orig-dst',
    vip,
    '--orig-port-dst',
    String(port),
    '--reply-dst',
    replyTo
  ]
}
