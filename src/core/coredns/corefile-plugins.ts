// The names of CoreDNS's plugins. A Corefile with another name is loaded only by a CoreDNS that was built with that plugin.
// Sources: coredns 1.15.0, core/dnsserver/zdirectives.go; the external plugins that coredns.io lists; directives of Kubernetes
// distributions.

/** Plugins of CoreDNS itself, and external ones that are in use. */
export const PLUGINS: ReadonlySet<string> = new Set(
  `root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket reload nsid bufsize bind debug
   trace ready health pprof shed prometheus errors log dnstap local dns64 siit any chaos loadbalance tsig rewrite autopath acl
   cache header dnssec tls minimal template transfer dynupdate hosts route53 azure clouddns k8s_external kubernetes file auto
   secondary etcd loop forward grpc erratic whoami on sign view nomad
   ads alias alternate amazondns blocklist demo dnsredir docker dump ens fanout finalize forwardcrd git gravwell gslb handshake
   idetcd ipecho ipin ipset k8s_cache k8s_crd k8s_dns_chaos k8s_event k8s_gateway kubenodes kubernetai lighthouse mdns meshname
   mongodb multicluster mysql netbox node_local ocp_dnsnameresolver pdsql powerdnsrec proxmox ql records recursor redis redisc
   rrl split tailscale unbound warnlist wgsd`.split(/\s+/)
)
