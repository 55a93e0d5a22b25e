package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/engine/etcd"
	"github.com/nyxnet/nyx/internal/registry/mail"
)

// membersTimeout bounds the first look at the bus of a cluster that has a leader.
const membersTimeout = 30 * time.Second

// openMembers starts this process's part of the cluster that control processes are among
// themselves: the configuration of the network is there, and their bus unless they have
// another one.
func openMembers(cfg *daemon.ControlConfig) error {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Whoever stops a process that waits for the others is not to wait for them.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	own, names := memberOf(cfg)
	log.Info("this process waits for most of the members", "members", len(names))
	store, err := own.Start(ctx, prefixOf(cfg, "config"))
	if err != nil {
		return err
	}
	cfg.Settings, cfg.Office = store, store
	if !cfg.Plane.BusMembers {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	shared := store.Beside(prefixOf(cfg, "mail"))
	post, err := mail.Open(ctx, mail.Config{Store: shared, Office: shared, Name: cfg.Name, Members: names, Log: cfg.Log})
	if err != nil {
		return err
	}
	cfg.Bus = post
	return nil
}

func prefixOf(cfg *daemon.ControlConfig, part string) string {
	return "/nyx/" + cfg.Trust.Network + "/" + part + "/"
}

// memberOf is this process as a member, with the names of all.
func memberOf(cfg *daemon.ControlConfig) (m etcd.Member, names []string) {
	s := &cfg.Plane.Store
	m = etcd.Member{
		Name: cfg.Name, Dir: filepath.Join(cfg.StateDir, etcdDir), Token: "nyx-" + cfg.Trust.Network,
		Files: etcd.Files{CA: s.CA, Certificate: s.Certificate, Key: s.Key},
	}
	var cluster []string
	for _, other := range cfg.Plane.Members {
		url := "https://" + other.Address.String()
		cluster, names = append(cluster, other.Name+"="+url), append(names, other.Name)
		if other.Name == cfg.Name {
			m.Peer = url
		}
	}
	m.Cluster = strings.Join(cluster, ",")
	return m, names
}
